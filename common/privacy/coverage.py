"""Whether one mechanism is a part of another: the same releases, each at most as often."""

from __future__ import annotations

from common.privacy.mechanism import (
    Composition,
    Gaussian,
    Laplace,
    Mechanism,
    NotPrivate,
    Part,
    SampledGaussian,
    count_of,
    merge,
)

__all__ = ["covers", "merged", "together"]


def covers(whole: Mechanism, part: Mechanism) -> bool:
    """Whether every release of ``part`` is one of ``whole``, by exact parameters and number.

    No accountant is asked: whatever ``whole`` was charged with covers ``part`` under each of them. Fewer
    steps are covered; more noise is not, because it is another mechanism.
    """
    available = {_key(piece): count_of(piece) for piece in merge(whole)}
    return all(count_of(piece) <= available.get(_key(piece), 0) for piece in merge(part))


def together(*mechanisms: Mechanism) -> Mechanism:
    """All of them released, in canonical form: equal releases added up, whatever the order."""
    return merged(Composition(mechanisms))


def merged(mechanism: Mechanism) -> Mechanism:
    """The same releases in canonical form; a single part stands alone."""
    parts = merge(mechanism)
    return parts[0] if len(parts) == 1 else Composition(parts)


def _key(part: Part) -> tuple[object, ...]:
    match part:
        case SampledGaussian(rate, noise, _):
            return (SampledGaussian, rate, noise)
        case Gaussian(noise, _):
            return (Gaussian, noise)
        case Laplace(scale, _):
            return (Laplace, scale)
        case NotPrivate(reason):
            return (NotPrivate, reason)
