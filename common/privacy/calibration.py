"""The smallest noise that keeps a plan within a privacy budget.

One-sided: what is returned has been evaluated, and costs at most the budget. Not wasteful: it lies within
about 0.02 % of the smallest such noise, except where the accountant itself cannot resolve the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from common.errors import BadInput
from common.privacy import pld, rdp
from common.privacy.mechanism import LARGEST_NOISE, Composition, SampledGaussian, merge

__all__ = ["noise_for_epsilon", "noise_for_filter"]

_USUAL_GAIN = 0.93  # of PLD over RDP in noise; only where the search starts
_CLOSE = 1.5e-4
_MOST_ROUNDS = 60
_Cost = Callable[[float], float]


def noise_for_epsilon(epsilon: float, delta: float, phases: Sequence[tuple[float, int]], tight: bool) -> float:
    """Smallest common noise multiplier at which ``phases`` cost at most (epsilon, delta).

    Each phase is (sample rate, steps). By RDP, or with ``tight`` by PLD, for which RDP gives the start.
    """
    _check_phases(phases)
    by_rdp = _smallest(lambda noise: rdp.epsilon(_at(phases, noise), delta), epsilon, 1.0)
    if not tight:
        return _reached(by_rdp, epsilon)
    start = 1.0 if by_rdp is None else by_rdp * _USUAL_GAIN
    return _reached(_smallest(lambda noise: pld.epsilon(_at(phases, noise), delta), epsilon, start), epsilon)


def noise_for_filter(epsilon: float, delta: float, phases: Sequence[tuple[float, int]], order: int) -> float:
    """Smallest common noise multiplier at which ``phases`` fit the cap of a filter at ``order``."""
    _check_phases(phases)
    cap = rdp.filter_cap(epsilon, delta, order)
    if cap <= 0:
        raise BadInput(
            f"calibration: order = {order}: cannot grant anything at epsilon = {epsilon:g}, "
            f"delta = {delta:g}; take the order that best_filter_order proposes"
        )
    return _reached(_smallest(lambda noise: rdp.rdp_at_order(_at(phases, noise), order), cap, 1.0), cap)


def _at(phases: Sequence[tuple[float, int]], noise: float) -> Composition:
    return Composition(tuple(SampledGaussian(sample_rate, noise, steps) for sample_rate, steps in phases))


def _check_phases(phases: Sequence[tuple[float, int]]) -> None:
    if not merge(_at(phases, 1.0)):
        raise BadInput(f"calibration: phases = {list(phases)!r}: release nothing, so no noise is the smallest")


def _reached(noise: float | None, target: float) -> float:
    if noise is None:
        raise BadInput(f"calibration: target = {target:g}: not reached with noise up to {LARGEST_NOISE:g}")
    return noise


def _smallest(cost: _Cost, target: float, start: float) -> float | None:
    """Noise at which a falling ``cost`` is at most ``target``, and more than (1 - _CLOSE) of it if it can be.

    A secant search in ln(noise), ln(cost), kept inside the bracket known so far; ``start`` is a guess.
    None where no noise up to ``LARGEST_NOISE`` will do.
    """
    aim = math.log(target) - _CLOSE / 2
    low, high = math.log(rdp.SMALLEST_NOISE), math.log(LARGEST_NOISE)
    here = math.log(start)
    best: float | None = None
    slope, before = -1.5, (math.nan, math.nan)
    for _ in range(_MOST_ROUNDS):
        noise = math.exp(here)
        value = cost(noise)
        if value <= target:
            best, high = noise, here
            if value > target * (1 - _CLOSE) or high - low < 1e-9:
                return noise
        else:
            low = here
        height = math.log(value) if 0 < value < math.inf else math.nan
        measured = (height - before[1]) / (here - before[0]) if here != before[0] else math.nan
        if -50 < measured < -0.05:
            slope = measured
        before = (here, height)
        here = _next(here, (aim - height) / slope, low, high)
    return best


def _next(here: float, move: float, low: float, high: float) -> float:
    """Point of the secant if it lies inside the bracket, else the middle of the bracket."""
    if math.isnan(move):
        return (low + high) / 2
    there = here + max(-2.0, min(2.0, move))
    return there if low < there < high else (low + high) / 2
