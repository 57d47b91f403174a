"""The privacy loss accountant: tight for a list of releases that was fixed in advance.

The numbers are upper bounds: the grid is pessimistic, cut tails and the rounding of 64-bit transforms are
charged. Where that charge exceeds a tiny delta, RDP is the smaller and is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from common.errors import RunFailed
from common.privacy import rdp
from common.privacy.losses import Losses, Release, compose, loss_range, one_release
from common.privacy.mechanism import Composition, Gaussian, Laplace, Mechanism, Part, SampledGaussian, merge
from common.privacy.rdp import SMALLEST_NOISE

__all__ = ["INTERVAL", "MANY_STEPS", "delta", "epsilon", "epsilons", "interval_for"]

INTERVAL = 1e-4
"""Grid interval, in units of privacy loss, up to ``MANY_STEPS`` releases."""

MANY_STEPS = 20_000
"""Number of releases beyond which the interval follows the spread of one step's loss."""

_SPREAD_SHARE = 0.02
_MOST_CELLS_ONE = 500_000
_SMALLEST_RATE = 1e-9
_BEYOND_GRIDS = 1e4


def epsilon(mechanism: Mechanism, delta: float, interval: float | None = None) -> float:
    """Epsilon at ``delta``: the smaller of PLD and RDP, both upper bounds.

    PLD is the smaller wherever 64-bit masses can resolve ``delta``; at a tiny delta after very many steps
    they cannot, and RDP takes over, as it does beyond an epsilon of 10,000.
    """
    parts = merge(mechanism)
    by_rdp = rdp.epsilon(mechanism, delta)
    if not parts or by_rdp > _BEYOND_GRIDS:
        return by_rdp
    return min(_distribution(parts, interval).epsilon(delta), by_rdp)


def delta(mechanism: Mechanism, epsilon: float) -> float:
    """Delta at ``epsilon``: the smaller of PLD and RDP, both upper bounds."""
    parts = merge(mechanism)
    by_rdp = rdp.delta(mechanism, epsilon)
    if not parts or rdp.rdp_at_order(mechanism, 2) > _BEYOND_GRIDS:
        return by_rdp
    return min(_distribution(parts, None).delta(epsilon), by_rdp)


def epsilons(one_step: SampledGaussian, steps: Sequence[int], delta: float) -> list[float]:
    """Epsilon after each of several numbers of steps, all on the grid of the largest number."""
    sizes = [replace(one_step, steps=number) for number in steps]
    finite = [size for size in sizes if merge(size)]
    if not finite or rdp.rdp_at_order(finite[0], 2) > _BEYOND_GRIDS:
        return [rdp.epsilon(size, delta) for size in sizes]
    interval = interval_for(max(finite, key=lambda size: size.steps))
    return [epsilon(size, delta, interval) for size in sizes]


def interval_for(mechanism: Mechanism) -> float:
    """Grid interval for a mechanism; a ledger that shows a PLD epsilon shows this beside it.

    ``INTERVAL`` up to ``MANY_STEPS`` releases, and beyond that at most 0.02 of the standard deviation
    q sqrt(e^(1/s^2) - 1) of one step's likelihood ratio. Wider only where one release would need more than
    500,000 cells, which happens at an epsilon of dozens.
    """
    parts = _finite_parts(merge(mechanism))
    interval = INTERVAL
    if sum(_times(part) for part in parts) > MANY_STEPS:
        for part in parts:
            if isinstance(part, SampledGaussian):
                exponent = min(part.noise_multiplier**-2, 700.0)
                interval = min(interval, _SPREAD_SHARE * part.sample_rate * math.sqrt(math.expm1(exponent)))
    return max([interval, *(loss_range(part) / _MOST_CELLS_ONE for part in parts)])


def _distribution(parts: tuple[Part, ...], interval: float | None) -> Losses:
    """Privacy loss of merged parts of finite cost, on a wider grid where the window grows too large."""
    finite = _finite_parts(parts)
    chosen = interval_for(Composition(parts)) if interval is None else interval
    while True:
        releases = [one_release(_once(part), chosen) for part in finite]
        composed = compose(releases, [_times(part) for part in finite])
        if composed is not None:
            return composed
        chosen *= 2


def _finite_parts(parts: tuple[Part, ...]) -> list[Release]:
    """Parts with plain Gaussians made one: variances of the loss add up, so 1/s^2 does (Dong et al. 2022)."""
    kept: list[Release] = []
    precision = 0.0
    for part in parts:
        match part:
            case SampledGaussian(sample_rate, noise, steps) if noise >= SMALLEST_NOISE:
                kept.append(SampledGaussian(max(sample_rate, _SMALLEST_RATE), noise, steps))
            case Laplace(scale, _) if scale >= SMALLEST_NOISE:
                kept.append(part)
            case Gaussian(noise, count) if noise >= SMALLEST_NOISE:
                precision += count / (noise * noise)
            case _:
                raise RunFailed(f"pld: {part}: has no finite privacy loss; ask the accountant, not this module")
    if precision:
        kept.append(Gaussian(1 / math.sqrt(precision), 1))
    return kept


def _times(part: Release) -> int:
    return part.steps if isinstance(part, SampledGaussian) else part.count


def _once(part: Release) -> Release:
    match part:
        case SampledGaussian(sample_rate, noise, _):
            return SampledGaussian(sample_rate, noise, 1)
        case Gaussian(noise, _):
            return Gaussian(noise, 1)
        case Laplace(scale, _):
            return Laplace(scale, 1)
