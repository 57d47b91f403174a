"""Privacy losses on a grid: one release, several of them added up, and epsilon or delta read off.

A release is a pair of distributions. Its privacy loss is put on a grid of equal intervals so that
delta(epsilon) is never too small ("connect the dots": Doroshenko et al. 2022, arXiv 2207.04380, Algorithm 1).
Losses of several releases add up: the masses convolve. Both directions, unit removed and unit added, are
carried through and the larger delta counts.

dp_accounting gives the two distributions of one release and where to cut their tails. The grid, the
convolution and the reading are here, on whole arrays; the tests hold them to dp_accounting's own accountant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from dp_accounting.pld.privacy_loss_mechanism import (
    AdditiveNoisePrivacyLoss,
    AdjacencyType,
    GaussianPrivacyLoss,
    LaplacePrivacyLoss,
)
from scipy import fft

from common.privacy.mechanism import Gaussian, Laplace, SampledGaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Direction", "Losses", "Release", "compose", "loss_range", "one_release"]

Release: TypeAlias = SampledGaussian | Gaussian | Laplace
"""A mechanism whose privacy loss can be put on a grid."""

_MOST_CELLS = 2**22
_TAIL = 1e-15
_ROUNDING = 2.0**-52  # per release; measured against 80-bit transforms, the error stays below half of it
_RATE_RATIO = 1.4
_FARTHEST = 60


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """Loss in one direction: ``masses[i]`` at (``lowest`` + i) x interval, ``infinite`` at infinity."""

    masses: NDArray[np.float64]
    lowest: int
    infinite: float
    spread: float
    _generating: dict[float, float] = field(default_factory=dict, repr=False)

    def log_moment(self, rate: float) -> float:
        """Logarithm of the sum of masses x e^(rate x cell); infinity where 64 bits cannot hold it."""
        known = self._generating.get(rate)
        if known is None:
            cells = np.arange(self.lowest, self.lowest + len(self.masses), dtype=np.float64)
            end = cells[-1] if rate > 0 else cells[0]
            total = float(np.dot(self.masses, np.exp(rate * (cells - end))))
            known = rate * float(end) + math.log(total) if total > 1e-280 else math.inf
            self._generating[rate] = known
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The privacy loss of a whole mechanism, in both directions, on one grid."""

    interval: float
    directions: tuple[Direction, ...]

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon >= 0 at which both directions cost at most ``delta``; inf where there is none."""
        return max(_read_epsilon(direction, self.interval, delta) for direction in self.directions)

    def delta(self, epsilon: float) -> float:
        """Delta at ``epsilon``, the larger of both directions: E[(1 - e^(epsilon - L))+] + P[L = inf]."""
        return max(_read_delta(direction, self.interval, epsilon) for direction in self.directions)


class _Repeated(NamedTuple):
    direction: Direction
    times: int


@lru_cache(maxsize=16)
def one_release(part: Release, interval: float) -> Losses:
    """One release on the grid; kept, because its curve is by far the dearest thing here."""
    return Losses(interval, tuple(_connect_dots(pair, interval) for pair in _pairs(part)))


def loss_range(part: Release) -> float:
    """Width of the losses that one release can have, its cut tails apart."""
    ends = [pair.connect_dots_bounds() for pair in _pairs(part)]
    return max(float(end.epsilon_upper - end.epsilon_lower) for end in ends)


def compose(releases: Sequence[Losses], times: Sequence[int]) -> Losses | None:
    """Each release repeated that many times, all together; None where the grid would be too large.

    All releases are on one interval. The window holds all but ``_TAIL`` of the mass by Chernoff's bound; what
    lies outside is charged as an infinite loss, and so is the rounding of the transforms.
    """
    both = any(len(release.directions) > 1 for release in releases)
    directions = []
    for side in range(2 if both else 1):
        parts = [
            _Repeated(release.directions[min(side, len(release.directions) - 1)], number)
            for release, number in zip(releases, times, strict=True)
        ]
        direction = _convolve(parts)
        if direction is None:
            return None
        directions.append(direction)
    return Losses(releases[0].interval, tuple(directions))


def _convolve(parts: list[_Repeated]) -> Direction | None:
    total = sum(part.times for part in parts)
    if total == 1:
        return parts[0].direction
    low, high = _window(parts)
    size = max(high - low + 1, *(len(part.direction.masses) for part in parts))
    if size > _MOST_CELLS:
        return None
    size = fft.next_fast_len(size, real=True)
    transform: NDArray[np.complex128] = np.ones(1, dtype=np.complex128)
    for part in parts:
        transform = transform * _power(fft.rfft(part.direction.masses, size), part.times)
    masses = fft.irfft(transform, size)
    offset = sum(part.direction.lowest * part.times for part in parts)
    masses = np.roll(masses, -((low - offset) % size))[: high - low + 1]
    finite = sum(part.times * math.log1p(-min(part.direction.infinite, 0.5)) for part in parts)
    infinite = min(1.0, _TAIL + total * _ROUNDING - math.expm1(finite))
    spread = math.sqrt(sum(part.times * part.direction.spread**2 for part in parts))
    return Direction(np.maximum(masses, 0.0), low, infinite, spread)


def _window(parts: list[_Repeated]) -> tuple[int, int]:
    """Lowest and highest cell to keep: the support, cut where Chernoff leaves _TAIL / 2 on each side."""
    low = sum(part.times * part.direction.lowest for part in parts)
    high = sum(part.times * (part.direction.lowest + len(part.direction.masses) - 1) for part in parts)
    spread = math.sqrt(sum(part.times * part.direction.spread**2 for part in parts))
    middle = round(math.log(8.0 / max(spread, 1e-9), _RATE_RATIO))
    above = _best_bound(lambda power: _chernoff(parts, _RATE_RATIO**power), middle)
    below = _best_bound(lambda power: _chernoff(parts, -(_RATE_RATIO**power)), middle)
    high = min(high, math.ceil(min(above, 2.0**62)))
    low = max(low, math.floor(-min(below, 2.0**62)))
    return low, max(low, high)


def _chernoff(parts: list[_Repeated], rate: float) -> float:
    """Cell beyond which, in the direction of ``rate``, at most _TAIL / 2 lies (Chernoff)."""
    moment = math.fsum(part.times * part.direction.log_moment(rate) for part in parts)
    return (moment + math.log(2 / _TAIL)) / abs(rate)


def _best_bound(bound: Callable[[int], float], start: int) -> float:
    """Smallest value of a function that falls and then rises, from ``start`` on; any value would be valid."""
    best, place = bound(start), start
    for move in (-1, 1):
        while abs(place - start) < _FARTHEST and (value := bound(place + move)) <= best:
            best, place = value, place + move
        if place != start:
            break
    return best


def _power(base: NDArray[np.complex128], exponent: int) -> NDArray[np.complex128]:
    """Raise ``base`` to a whole power by repeated squaring: an order of magnitude faster than ``**``."""
    result: NDArray[np.complex128] | None = None
    while True:
        if exponent & 1:
            result = base if result is None else result * base
        exponent >>= 1
        if not exponent:
            assert result is not None
            return result
        base = base * base


def _read_epsilon(direction: Direction, interval: float, delta: float) -> float:
    """Between grid points delta = A - e^epsilon B, with A, B sums of masses and of masses x e^-loss.

    Powers are taken relative to the last cell E above which more than ``delta`` lies: epsilon is never beyond
    it, and a loss of many hundreds would leave 64 bits otherwise. Cells more than 700 below E count too
    little in B, so that their delta comes out too large, never too small.
    """
    if direction.infinite > delta:
        return math.inf
    first = max(0, 1 - direction.lowest)
    masses = direction.masses[first:]
    losses = interval * np.arange(direction.lowest + first, direction.lowest + first + len(masses))
    upper = direction.infinite + np.cumsum(masses[::-1])[::-1]
    if len(masses) == 0 or upper[0] <= delta:
        return 0.0
    last = float(losses[np.flatnonzero(upper > delta)[-1]])
    lower = np.cumsum((masses * np.exp(np.minimum(last - losses, 700.0)))[::-1])[::-1]
    if upper[0] - math.exp(-min(last, 745.0)) * lower[0] <= delta:
        return 0.0
    # delta at each grid point; non-increasing in exact arithmetic
    at_points = upper - np.exp(np.minimum(losses - last, 700.0)) * lower
    place = int(np.argmax(at_points <= delta)) if at_points[-1] <= delta else len(masses) - 1
    if lower[place] <= 0.0 or upper[place] <= delta:
        return float(losses[place])
    return min(float(losses[place]), max(0.0, last + math.log((upper[place] - delta) / lower[place])))


def _read_delta(direction: Direction, interval: float, epsilon: float) -> float:
    first = min(len(direction.masses), max(0, math.floor(epsilon / interval) + 1 - direction.lowest))
    masses = direction.masses[first:]
    losses = interval * np.arange(direction.lowest + first, direction.lowest + first + len(masses))
    above = float(np.dot(masses, -np.expm1(np.minimum(epsilon - losses, 0.0))))
    return min(1.0, direction.infinite + above)


def _pairs(
    part: Release,
) -> list[AdditiveNoisePrivacyLoss]:
    """dp_accounting's curves of one release: removed, then added where that differs."""
    remove = AdjacencyType.REMOVE
    match part:
        case Gaussian(noise, _):
            return [GaussianPrivacyLoss(noise)]
        case Laplace(scale, _):
            return [LaplacePrivacyLoss(scale)]
        case SampledGaussian(sample_rate, noise, _):
            return [
                GaussianPrivacyLoss(noise, sampling_prob=sample_rate, adjacency_type=adjacency)
                for adjacency in (remove, AdjacencyType.ADD)
            ]


def _curve(pair: AdditiveNoisePrivacyLoss, epsilons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Delta of one release at each of ``epsilons``: P(x <= t) - e^epsilon Q(x <= t), the loss falling in x.

    For Gaussian noise t solves loss(t) = epsilon in closed form, on the whole array at once (what
    ``get_delta_for_epsilon`` does point by point): removing, loss(x) = ln(1 - q + q e^(-(x + 1/2) / s^2)),
    and adding, loss(x) = -ln(1 - q + q e^((x - 1/2) / s^2)).
    """
    if not isinstance(pair, GaussianPrivacyLoss):
        return np.asarray(pair.get_delta_for_epsilon(epsilons), dtype=np.float64)
    rate, variance = float(pair.sampling_prob), float(pair.standard_deviation) ** 2
    sign = -1.0 if pair.adjacency_type == AdjacencyType.ADD else 1.0
    beyond = sign * epsilons <= math.log1p(-rate) if rate < 1.0 else np.zeros(len(epsilons), dtype=bool)
    ratios = np.where(beyond, 0.0, sign * epsilons)
    with np.errstate(over="ignore", divide="ignore"):
        unsampled = np.where(
            ratios > 30.0,
            ratios - math.log(rate) + np.log1p(-(1.0 - rate) * np.exp(-np.maximum(ratios, 0.0))),
            np.log1p(np.maximum(np.expm1(np.minimum(ratios, 30.0)) / rate, -1.0)),
        )
    ends = -sign * (0.5 + unsampled * variance)
    deltas = pair.mu_upper_cdf(ends) - np.exp(epsilons + pair.mu_lower_log_cdf(ends))
    flat = -np.expm1(np.minimum(epsilons, 0.0)) if sign > 0 else np.zeros(len(epsilons))
    return np.clip(np.where(beyond, flat, deltas), 0.0, 1.0)


def _connect_dots(pair: AdditiveNoisePrivacyLoss, interval: float) -> Direction:
    """Masses whose delta(epsilon) meets the true curve at every grid point and lies above it elsewhere.

    With D_i the curve at cell i and h the interval (Doroshenko et al. 2022, Algorithm 1, equal gaps): the
    mass at i is (D_{i+1} - D_i - e^h (D_i - D_{i-1})) / (e^h - 1); D beyond the last cell is flat and becomes
    the infinite mass, and before the first one it rises to 1 as 1 - e^(epsilon) times a constant.
    """
    ends = pair.connect_dots_bounds()
    lowest, highest = math.floor(ends.epsilon_lower / interval), math.ceil(ends.epsilon_upper / interval)
    curve = np.minimum.accumulate(_curve(pair, np.arange(lowest, highest + 1) * interval))
    falls = -np.diff(curve)
    step = math.expm1(interval)
    masses = np.zeros(len(curve))
    masses[0] = 1.0 - curve[0]
    masses[:-1] -= falls / step
    masses[1:] += falls * (math.exp(interval) / step)
    masses = np.maximum(masses, 0.0)
    filled = np.flatnonzero(masses)
    masses, lowest = masses[filled[0] : filled[-1] + 1], lowest + int(filled[0])
    cells = np.arange(len(masses))
    mean = float(np.dot(masses, cells) / masses.sum())
    spread = math.sqrt(float(np.dot(masses, (cells - mean) ** 2) / masses.sum()))
    return Direction(masses, lowest, float(curve[-1]), spread)
