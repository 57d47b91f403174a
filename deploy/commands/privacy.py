"""`hanse privacy`: epsilon, delta or noise of sampled Gaussian steps, without a study and without data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from common.errors import BadInput

if TYPE_CHECKING:
    from common.privacy.accounting import Accountant
    from common.privacy.mechanism import Composition

__all__ = ["app"]

app = typer.Typer(help="Epsilon, delta or noise of private training steps.", no_args_is_help=True)

_Rates = Annotated[
    list[float],
    typer.Option("--sample-rate", metavar="Q", help="Chance of a unit to be in a step; once a phase."),
]
_Steps = Annotated[list[int], typer.Option("--steps", metavar="T", help="Steps; once a phase.")]
_Noises = Annotated[
    list[float],
    typer.Option("--noise-multiplier", metavar="S", help="Noise of the sum / clipping norm; one, or one a phase."),
]
_Delta = Annotated[float, typer.Option("--delta", metavar="D", help="Such as 1e-5.")]
_Epsilon = Annotated[float, typer.Option("--epsilon", metavar="E", help="Such as 8.")]
_Accountant = Annotated[str, typer.Option(metavar="pld|rdp|prv", help="pld is tight; prv is a second opinion.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_FIGURES = Context(prec=6, rounding=ROUND_CEILING)
_ACCOUNTANTS = ("pld", "rdp", "prv")


@app.command()
def epsilon(
    sample_rate: _Rates,
    noise_multiplier: _Noises,
    steps: _Steps,
    delta: _Delta,
    accountant: _Accountant = "pld",
    as_json: _Json = False,
) -> None:
    """Print epsilon after so many steps."""
    from common.audit.recomputed import in_words
    from common.privacy.accounting import epsilon as epsilon_of

    judge = _accountant(accountant, _ACCOUNTANTS)
    mechanism = _mechanism(sample_rate, noise_multiplier, steps)
    found = epsilon_of(mechanism, _within_delta(delta), judge)
    _print(
        {"epsilon": found, "delta": delta, "accountant": accountant},
        f"epsilon at delta {delta:g} per unit added or removed, by {accountant.upper()}: {in_words(mechanism)}",
        mechanism,
        as_json,
    )


@app.command()
def delta(
    epsilon: _Epsilon,
    sample_rate: _Rates,
    noise_multiplier: _Noises,
    steps: _Steps,
    accountant: _Accountant = "pld",
    as_json: _Json = False,
) -> None:
    """Print delta at an epsilon, after so many steps."""
    from common.audit.recomputed import in_words
    from common.privacy.accounting import delta as delta_of

    judge = _accountant(accountant, _ACCOUNTANTS)
    mechanism = _mechanism(sample_rate, noise_multiplier, steps)
    found = delta_of(mechanism, _within_epsilon(epsilon, 0.0), judge)
    _print(
        {"delta": found, "epsilon": epsilon, "accountant": accountant},
        f"delta at epsilon {epsilon:g} per unit added or removed, by {accountant.upper()}: {in_words(mechanism)}",
        mechanism,
        as_json,
    )


@app.command()
def noise(
    epsilon: _Epsilon,
    delta: _Delta,
    sample_rate: _Rates,
    steps: _Steps,
    accountant: Annotated[str, typer.Option(metavar="pld|rdp", help="Who judges.")] = "pld",
    order: Annotated[int | None, typer.Option(metavar="N", help="Of a filter, with --accountant rdp.")] = None,
    as_json: _Json = False,
) -> None:
    """Print the smallest noise multiplier that keeps so many steps within (epsilon, delta)."""
    from common.privacy.accounting import noise_multiplier_for

    judge = _accountant(accountant, _ACCOUNTANTS[:2])
    phases = _phases(sample_rate, steps)
    _within_epsilon(epsilon, 1e-6)
    _within_delta(delta)
    if order is not None:
        _check_order(order, epsilon, delta, accountant)
    try:
        found = noise_multiplier_for(epsilon, delta, phases, judge, order)
    except BadInput as error:
        raise BadInput(f"--epsilon {epsilon:g}: no noise multiplier up to a million reaches it") from error
    done = "; ".join(f"{count} Poisson-sampled steps at rate {rate:g}" for rate, count in phases)
    by = accountant.upper() if order is None else f"the filter at order {order}"
    _print(
        {"noise_multiplier": found, "epsilon": epsilon, "delta": delta, "accountant": accountant, "order": order},
        f"smallest noise multiplier (noise of the sum / clipping norm) for epsilon {epsilon:g} at delta {delta:g} "
        f"per unit added or removed, by {by}: {done}",
        _mechanism(sample_rate, [found], steps),
        as_json,
    )


def _accountant(given: str, allowed: Sequence[str]) -> Accountant:
    if given not in allowed:
        why = {"gdp": "; gdp is no upper bound", "prv": "; PRV is a second opinion and sets nothing"}.get(
            given, ""
        )
        raise BadInput(f"--accountant {given}: must be {' or '.join(allowed)}{why}")
    return cast("Accountant", given)


def _mechanism(rates: Sequence[float], noises: Sequence[float], steps: Sequence[int]) -> Composition:
    from common.privacy.mechanism import LARGEST_NOISE, Composition, SampledGaussian

    phases = _phases(rates, steps)
    for value in noises:
        if not 0 <= value <= LARGEST_NOISE:
            raise BadInput(f"--noise-multiplier {value:g}: must be from 0 to {LARGEST_NOISE:g}")
    if len(noises) not in (1, len(phases)):
        raise BadInput(
            f"--noise-multiplier: {len(noises)} given for {len(phases)} phases; give one, or one for each phase"
        )
    each = noises if len(noises) == len(phases) else [noises[0]] * len(phases)
    return Composition(tuple(SampledGaussian(q, s, t) for (q, t), s in zip(phases, each, strict=True)))


def _phases(rates: Sequence[float], steps: Sequence[int]) -> list[tuple[float, int]]:
    """Each phase's sample rate and steps."""
    from common.privacy.mechanism import LARGEST_COUNT

    for rate in rates:
        if not 0 < rate <= 1:
            raise BadInput(f"--sample-rate {rate:g}: must be above 0 and at most 1")
    for count in steps:
        if not 1 <= count <= LARGEST_COUNT:
            raise BadInput(f"--steps {count}: must be from 1 to {LARGEST_COUNT}")
    if len(rates) != len(steps):
        raise BadInput(f"--steps: {len(steps)} given for {len(rates)} of --sample-rate; give one for each phase")
    return list(zip(rates, steps, strict=True))


def _within_delta(value: float) -> float:
    from common.privacy.accounting import SMALLEST_DELTA

    if not SMALLEST_DELTA <= value < 1:
        raise BadInput(f"--delta {value:g}: must be at least {SMALLEST_DELTA:g} and below 1")
    return value


def _within_epsilon(value: float, smallest: float) -> float:
    from common.privacy.accounting import LARGEST_EPSILON

    if not smallest <= value <= LARGEST_EPSILON:
        raise BadInput(f"--epsilon {value:g}: must be from {smallest:g} to {LARGEST_EPSILON:g}")
    return value


def _check_order(order: int, epsilon: float, delta: float, accountant: str) -> None:
    """Refuse an order that no filter has, or that never grants anything."""
    from common.privacy.accounting import filter_cap
    from common.privacy.rdp import LARGEST_ORDER

    if accountant != "rdp":
        raise BadInput(f"--order {order}: belongs to a filter; add --accountant rdp")
    if not 2 <= order <= LARGEST_ORDER:
        raise BadInput(f"--order {order}: must be from 2 to {LARGEST_ORDER}")
    if filter_cap(epsilon, delta, order) <= 0:
        able = (each for each in range(2, LARGEST_ORDER + 1) if filter_cap(epsilon, delta, each) > 0)
        smallest = next(able, None)
        mend = "raise --epsilon" if smallest is None else f"the smallest order that can is {smallest}"
        raise BadInput(f"--order {order}: grants nothing at epsilon {epsilon:g}, delta {delta:g}; {mend}")


def _print(figures: Mapping[str, Any], meaning: str, mechanism: Composition, as_json: bool) -> None:
    """The first figure and one line of what it means; as JSON all of them, an infinite one null."""
    from common.privacy.mechanism import to_json

    if as_json:
        finite = {key: None if value == math.inf else value for key, value in figures.items()}
        told = {"adjacency": "add or remove one unit", "sampling": "Poisson", "mechanism": to_json(mechanism)}
        print(json.dumps(finite | told, indent=2, allow_nan=False))
        return
    typer.echo(_rounded_up(float(next(iter(figures.values())))))
    typer.echo(meaning)


def _rounded_up(value: float) -> str:
    """Six digits, never below the value: what is printed still holds."""
    if math.isinf(value):
        return "infinity"
    return f"{float(_FIGURES.create_decimal(Decimal(value))):.6g}"
