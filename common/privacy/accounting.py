"""What a mechanism costs: epsilon at a delta, delta at an epsilon, noise for a budget, cost under a filter.

Three accountants answer for a mechanism that was fixed in advance, whatever its parts:

==========  ===================================================================================
``"pld"``   tight, and the default; never above RDP
``"rdp"``   the minimum over the orders of ``common.privacy.rdp``
``"prv"``   Opacus' upper bound, in a process of its own: a second opinion, never a verdict
==========  ===================================================================================

All are upper bounds. Opacus' "gdp" is not (a central limit theorem) and is refused. Nothing released costs 0;
a part without noise, or ``NotPrivate``, costs infinity. A budget of the filter kind is charged with
``rdp_at_order`` against ``filter_cap``, at the one order that its first entry fixed.

Importing this module is cheap: an accountant is imported at its first use, and none but PRV needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn, TypeAlias, get_args

from common.errors import BadInput
from common.privacy.mechanism import Mechanism, SampledGaussian

__all__ = [
    "LARGEST_EPSILON",
    "SMALLEST_DELTA",
    "Accountant",
    "best_filter_order",
    "delta",
    "epsilon",
    "epsilon_after",
    "filter_cap",
    "noise_multiplier_for",
    "rdp_at_order",
]

Accountant: TypeAlias = Literal["pld", "rdp", "prv"]
"""The name of an accountant."""

SMALLEST_DELTA = 1e-12
"""Smallest delta that is answered; below it, rounding in 64 bits exceeds what is asked."""

LARGEST_EPSILON = 1e4
"""Largest epsilon that is asked about or calibrated to."""


def epsilon(mechanism: Mechanism, delta: float, accountant: Accountant = "pld") -> float:
    """Epsilon such that the whole mechanism is (epsilon, ``delta``)-differentially private.

    0 where nothing was released, infinity where no finite guarantee holds. ``"prv"`` raises ``RunFailed``
    where Opacus fails or takes too long, and ``NotYet`` for Laplace noise; which accountant to ask then is
    the caller's choice.
    """
    _check_delta(delta)
    match accountant:
        case "pld":
            from common.privacy import pld

            return pld.epsilon(mechanism, delta)
        case "rdp":
            from common.privacy import rdp

            return rdp.epsilon(mechanism, delta)
        case "prv":
            from common.privacy import prv

            return prv.epsilon(mechanism, delta)
    return _refuse_accountant(accountant)


def delta(mechanism: Mechanism, epsilon: float, accountant: Accountant = "pld") -> float:
    """Delta such that the whole mechanism is (``epsilon``, delta)-differentially private; from 0 to 1."""
    _check_epsilon(epsilon, 0.0)
    match accountant:
        case "pld":
            from common.privacy import pld

            return pld.delta(mechanism, epsilon)
        case "rdp":
            from common.privacy import rdp

            return rdp.delta(mechanism, epsilon)
        case "prv":
            from common.privacy import prv

            return prv.delta(mechanism, epsilon)
    return _refuse_accountant(accountant)


def epsilon_after(
    sample_rate: float, noise_multiplier: float, steps_list: Sequence[int], delta: float
) -> list[float]:
    """PLD epsilon after each number of steps in ``steps_list``, in its order: a table by round.

    All entries share one step's distribution and one grid, so the largest equals ``epsilon`` of that many
    steps, and entries rise with the number of steps.
    """
    from common.privacy import pld

    _check_delta(delta)
    return pld.epsilons(SampledGaussian(sample_rate, noise_multiplier, 0), steps_list, delta)


def noise_multiplier_for(
    epsilon: float,
    delta: float,
    phases: Sequence[tuple[float, int]],
    accountant: Accountant = "pld",
    order: int | None = None,
) -> float:
    """Smallest noise multiplier, common to all ``phases``, that keeps them within (epsilon, delta).

    A phase is (sample rate, steps). With ``order``, which asks for ``accountant="rdp"``, the phases fit the
    cap of a filter at that order. What is returned always costs at most the budget, and 0.5 % less noise
    would cost more. PRV is refused: it judges nothing.
    """
    from common.privacy import calibration

    _check_delta(delta)
    _check_epsilon(epsilon, 1e-6)
    if accountant not in ("pld", "rdp"):
        raise BadInput(f"accounting: accountant = {accountant!r}: calibrate with 'pld' or 'rdp'")
    if order is None:
        return calibration.noise_for_epsilon(epsilon, delta, phases, tight=accountant == "pld")
    if accountant != "rdp":
        raise BadInput(f"accounting: order = {order}: belongs to accountant = 'rdp', not {accountant!r}")
    return calibration.noise_for_filter(epsilon, delta, phases, order)


def rdp_at_order(mechanism: Mechanism, order: int) -> float:
    """Rényi divergence of the whole mechanism at one integer order: what a filter charges for it."""
    from common.privacy import rdp

    return rdp.rdp_at_order(mechanism, order)


def filter_cap(epsilon: float, delta: float, order: int) -> float:
    """Rényi divergence at ``order`` that a filter of (epsilon, delta) may grant in all; maybe negative."""
    from common.privacy import rdp

    _check_delta(delta)
    _check_epsilon(epsilon, 0.0)
    return rdp.filter_cap(epsilon, delta, order)


def best_filter_order(mechanism: Mechanism, epsilon: float, delta: float) -> int:
    """Integer order at which a forecast mechanism takes the smallest share of a filter."""
    from common.privacy import rdp

    _check_delta(delta)
    _check_epsilon(epsilon, 0.0)
    return rdp.best_filter_order(mechanism, epsilon, delta)


def _check_delta(delta: float) -> None:
    if not isinstance(delta, int | float) or not SMALLEST_DELTA <= delta < 1:
        raise BadInput(f"accounting: delta = {delta!r}: must be at least {SMALLEST_DELTA:g} and below 1")


def _check_epsilon(epsilon: float, smallest: float) -> None:
    if not isinstance(epsilon, int | float) or not smallest <= epsilon <= LARGEST_EPSILON:
        raise BadInput(f"accounting: epsilon = {epsilon!r}: must be from {smallest:g} to {LARGEST_EPSILON:g}")


def _refuse_accountant(accountant: object) -> NoReturn:
    names = ", ".join(get_args(Accountant))
    why = "; gdp is no upper bound" if accountant == "gdp" else ""
    raise BadInput(f"accounting: accountant = {accountant!r}: must be one of {names}{why}")
