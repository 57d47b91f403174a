"""What was released about a data set: frozen records, free of any opinion on what they cost.

A mechanism says only what was *done*. ``common.privacy.accounting`` turns it into an epsilon. Ledgers keep
mechanisms for years, so three things never change here: the meaning of a field, the name under which a
mechanism is written as JSON, and the fact that an unknown name or field is refused. A new meaning gets a new
name.

Two data sets are neighbours when one is the other with one unit added or removed. The unit (an example, a
person, an institution) is fixed by the budget that the mechanism is charged to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NoReturn, TypeAlias, TypeVar

from common.errors import BadInput

__all__ = [
    "LARGEST_COUNT",
    "LARGEST_NOISE",
    "Composition",
    "Gaussian",
    "Laplace",
    "Mechanism",
    "NotPrivate",
    "Part",
    "SampledGaussian",
    "count_of",
    "from_json",
    "merge",
    "to_json",
]

LARGEST_COUNT = 10**9
"""Most steps or repetitions in one record; beyond it 64-bit Fourier transforms say nothing."""

LARGEST_NOISE = 1e6
"""Largest noise multiplier or scale in one record."""

_DEEPEST = 32
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class SampledGaussian:
    """``steps`` releases of a noisy sum over a Poisson sample (Mironov, Talwar, Zhang 2019, section 3).

    In each step every unit enters the sample independently, with probability ``sample_rate`` = q, by secret
    coins drawn afresh for each unit and each step. Each sampled unit contributes a vector whose L2 norm is
    at most C. The release is the sum of these vectors plus Gaussian noise with standard deviation
    ``noise_multiplier`` x C in each coordinate: ``noise_multiplier`` = s divides the noise of the *sum* by C,
    whatever the number of units. A public constant may divide the release afterwards.

    Adding or removing one unit makes each step's privacy loss that of the pair
    P = (1 - q) N(0, s^2) + q N(1, s^2) against Q = N(0, s^2), in both directions.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_rate", _number("sample_rate", self.sample_rate, 1.0))
        noise = _number("noise_multiplier", self.noise_multiplier, LARGEST_NOISE)
        object.__setattr__(self, "noise_multiplier", noise)
        _whole("steps", self.steps)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """``count`` releases of a noisy sum over all units, none sampled (Balle, Wang 2018, section 2).

    Adding or removing one unit moves the sum by at most C in L2 norm. Each release adds Gaussian noise with
    standard deviation ``noise_multiplier`` x C in each coordinate. The pair of one release is
    N(1, s^2) against N(0, s^2), the same in both directions.
    """

    noise_multiplier: float
    count: int

    def __post_init__(self) -> None:
        noise = _number("noise_multiplier", self.noise_multiplier, LARGEST_NOISE)
        object.__setattr__(self, "noise_multiplier", noise)
        _whole("count", self.count)


@dataclass(frozen=True, slots=True)
class Laplace:
    """``count`` releases of a query with Laplace noise (Dwork, McSherry, Nissim, Smith 2006).

    Adding or removing one unit moves the query by at most D in L1 norm. Each release adds independent
    Laplace noise of scale parameter ``scale`` x D (standard deviation sqrt(2) x ``scale`` x D) in each
    coordinate, so one release alone is (1 / ``scale``)-differentially private with delta 0.
    """

    scale: float
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _number("scale", self.scale, LARGEST_NOISE))
        _whole("count", self.count)


@dataclass(frozen=True, slots=True)
class NotPrivate:
    """A release about which no guarantee is claimed; it costs infinity, whatever else was done."""

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip():
            _refuse("reason", self.reason, "must be a text that says why")
        if len(self.reason) > _LONGEST_REASON:
            _refuse("reason", f"{len(self.reason)} characters", f"must have at most {_LONGEST_REASON}")


@dataclass(frozen=True, slots=True)
class Composition:
    """Several releases about the same data, all of them seen; the order carries no cost.

    The list of parts is fixed in advance. Where a later part was chosen after looking at an earlier output,
    only the Rényi filter at one fixed order may add costs up (Feldman, Zrnic 2021). No parts: nothing
    was released.
    """

    parts: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple):
            _refuse("parts", self.parts, "must be a tuple of mechanisms")
        for place, part in enumerate(self.parts):
            if not isinstance(part, SampledGaussian | Gaussian | Laplace | NotPrivate | Composition):
                _refuse(f"parts[{place}]", part, "must be a mechanism")


Part: TypeAlias = SampledGaussian | Gaussian | Laplace | NotPrivate
"""A mechanism that has no parts of its own."""

Mechanism: TypeAlias = SampledGaussian | Gaussian | Laplace | NotPrivate | Composition
"""Anything that may have been released."""

_Key = TypeVar("_Key")


def count_of(part: Part) -> int:
    """How often a part was released; what was not private counts once."""
    match part:
        case SampledGaussian():
            return part.steps
        case NotPrivate():
            return 1
        case _:
            return part.count


def merge(mechanism: Mechanism) -> tuple[Part, ...]:
    """Releases that cost something: flattened, equal ones added up, in one canonical order.

    Two mechanisms with the same releases in another order or nesting give the same tuple, so that what an
    accountant computes from it is the same to the last bit. Left out: zero steps, a sample rate of 0. A
    sample rate of 1 is the plain Gaussian.
    """
    sampled: dict[tuple[float, float], int] = {}
    plain: dict[float, int] = {}
    laplace: dict[float, int] = {}
    reasons: set[str] = set()
    for part in _leaves(mechanism, 0):
        match part:
            case SampledGaussian(sample_rate, noise, steps):
                if sample_rate == 1.0:
                    _add(plain, noise, steps)
                elif sample_rate > 0.0:
                    _add(sampled, (sample_rate, noise), steps)
            case Gaussian(noise, count):
                _add(plain, noise, count)
            case Laplace(scale, count):
                _add(laplace, scale, count)
            case NotPrivate(reason):
                reasons.add(reason)
    return (
        *(SampledGaussian(*key, steps) for key, steps in sorted(sampled.items())),
        *(Gaussian(noise, count) for noise, count in sorted(plain.items())),
        *(Laplace(scale, count) for scale, count in sorted(laplace.items())),
        *(NotPrivate(reason) for reason in sorted(reasons)),
    )


def to_json(mechanism: Mechanism) -> dict[str, object]:
    """Plain dictionary of the mechanism, ready for ``json.dumps``; ``from_json`` gives it back equal."""
    if isinstance(mechanism, Composition):
        return {"mechanism": "composition", "parts": [to_json(part) for part in mechanism.parts]}
    name = next(name for name, kind in _NAMES.items() if kind is type(mechanism))
    return {"mechanism": name} | {field.name: getattr(mechanism, field.name) for field in fields(mechanism)}


def from_json(data: object) -> Mechanism:
    """Mechanism that a dictionary names, checked in full.

    Names come from a closed table. An unknown name, an unknown or missing field, a wrong type and a value
    out of bounds each raise ``BadInput``.
    """
    return _read(data, 0)


_NAMES: dict[str, Callable[..., Part]] = {
    "sampled_gaussian": SampledGaussian,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "not_private": NotPrivate,
}
_FIELDS: dict[str, tuple[str, ...]] = {
    "sampled_gaussian": ("sample_rate", "noise_multiplier", "steps"),
    "gaussian": ("noise_multiplier", "count"),
    "laplace": ("scale", "count"),
    "not_private": ("reason",),
    "composition": ("parts",),
}


def _read(data: object, depth: int) -> Mechanism:
    if depth > _DEEPEST:
        _refuse("parts", f"nested {depth} deep", f"must be nested at most {_DEEPEST} deep")
    if not isinstance(data, Mapping):
        _refuse("(whole)", data, "must be a table with a key 'mechanism'")
    name = data.get("mechanism")
    if not isinstance(name, str) or name not in _FIELDS:
        _refuse("mechanism", name, f"must be one of {', '.join(_FIELDS)}")
    given = {key: value for key, value in data.items() if key != "mechanism"}
    expected = _FIELDS[name]
    if set(given) != set(expected):
        _refuse(name, sorted(map(str, given)), f"must have exactly the fields {', '.join(expected)}")
    if name != "composition":
        return _NAMES[name](**given)
    parts = given["parts"]
    if not isinstance(parts, list):
        _refuse("parts", parts, "must be a list of mechanisms")
    return Composition(tuple(_read(part, depth + 1) for part in parts))


def _leaves(mechanism: Mechanism, depth: int) -> Iterator[Part]:
    if not isinstance(mechanism, Composition):
        yield mechanism
        return
    if depth > _DEEPEST:
        _refuse("parts", f"nested {depth} deep", f"must be nested at most {_DEEPEST} deep")
    for part in mechanism.parts:
        yield from _leaves(part, depth + 1)


def _add(totals: dict[_Key, int], key: _Key, count: int) -> None:
    if count:
        totals[key] = totals.get(key, 0) + count


def _number(field: str, value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(field, value, "must be a number")
    if not 0 <= value <= largest:
        _refuse(field, value, f"must be from 0 to {largest:g}")
    return float(value) + 0.0  # a negative zero becomes zero, so that equal records are written alike


def _whole(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(field, value, "must be a whole number")
    if not 0 <= value <= LARGEST_COUNT:
        _refuse(field, value, f"must be from 0 to {LARGEST_COUNT}")


def _refuse(field: str, value: object, bound: str) -> NoReturn:
    shown = "infinity" if value == math.inf else repr(value)
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    raise BadInput(f"mechanism: {field} = {shown}: {bound}")
