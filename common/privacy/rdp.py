"""Rényi differential privacy of a composition, its conversion to epsilon, and the Rényi filter.

The conversion everywhere is Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12:
epsilon = rho + ln(1 - 1/a) - ln(delta a) / (a - 1). The older one (Mironov 2017, Proposition 3) gives more.

Only integer orders may be enforced by a filter: they have a closed form that every library agrees on.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import BadInput
from common.privacy.mechanism import (
    Gaussian,
    Laplace,
    Mechanism,
    Part,
    SampledGaussian,
    count_of,
    merge,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONVERSION",
    "LARGEST_ORDER",
    "ORDERS",
    "SMALLEST_NOISE",
    "BestOrder",
    "best_filter_order",
    "best_order",
    "delta",
    "epsilon",
    "filter_cap",
    "rdp_at_order",
]

CONVERSION = "Canonne, Kamath, Steinke 2020, Proposition 12"
"""The conversion from Rényi to (epsilon, delta), named in every ledger."""

_LONG_ORDERS = (80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024)
LARGEST_ORDER = _LONG_ORDERS[-1]
"""Largest order that is looked at."""

ORDERS: tuple[float, ...] = (
    *(tenth / 10 for tenth in range(11, 110)),
    *(float(order) for order in range(11, 64)),
    *(float(order) for order in _LONG_ORDERS),
)
"""Orders over which the conversion is minimised: 1.1, 1.2, ..., 10.9, 11, ..., 63, and eleven up to 1024."""

SMALLEST_NOISE = 1e-3
"""Noise multiplier or scale below which no finite epsilon is claimed (it would exceed 1,000 anyway)."""

_SMALLEST_FOR_FRACTIONS = 0.05
_TAIL_WIDTHS = 9.5
_LOG_FACTORIALS = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, LARGEST_ORDER + 1)))))


class BestOrder(NamedTuple):
    """The smallest epsilon over ``ORDERS`` and the order that attains it."""

    epsilon: float
    order: float


def best_order(mechanism: Mechanism, delta: float) -> BestOrder:
    """Epsilon at ``delta`` by RDP, at least 0, and its order; a free mechanism costs exactly 0."""
    parts = merge(mechanism)
    if not parts:
        return BestOrder(0.0, ORDERS[0])
    orders = np.asarray(ORDERS)
    with np.errstate(invalid="ignore"):
        candidates = _curve(parts) + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    place = int(np.argmin(candidates))
    return BestOrder(max(0.0, float(candidates[place])), ORDERS[place])


def epsilon(mechanism: Mechanism, delta: float) -> float:
    """Epsilon at ``delta`` by RDP (``CONVERSION``), minimised over ``ORDERS``."""
    return best_order(mechanism, delta).epsilon


def delta(mechanism: Mechanism, epsilon: float) -> float:
    """Delta at ``epsilon`` by RDP: ``CONVERSION`` solved for delta, minimised over ``ORDERS``, at most 1."""
    parts = merge(mechanism)
    if not parts:
        return 0.0
    orders = np.asarray(ORDERS)
    exponents = (orders - 1) * (_curve(parts) + np.log1p(-1 / orders) - epsilon) - np.log(orders)
    return float(np.exp(min(0.0, float(np.min(exponents)))))


def rdp_at_order(mechanism: Mechanism, order: int) -> float:
    """Rényi divergence of ``order`` that the whole mechanism costs; a filter may add it up.

    Any integer order from 2 to ``LARGEST_ORDER``. Adaptive choice of later mechanisms is allowed as long as
    the sum stays below ``filter_cap`` at this one order (Feldman, Zrnic 2021, arXiv 2008.11193).
    """
    _check_order(order)
    return math.fsum(count_of(part) * _one_at_integer(part, order) for part in merge(mechanism))


def filter_cap(epsilon: float, delta: float, order: int) -> float:
    """How much ``rdp_at_order`` a budget of (epsilon, delta) holds at ``order``; may be negative.

    ``CONVERSION`` solved for rho: epsilon - ln(1 - 1/a) + ln(delta a) / (a - 1).
    """
    _check_order(order)
    return epsilon - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)


def best_filter_order(mechanism: Mechanism, epsilon: float, delta: float) -> int:
    """Integer order at which a forecast mechanism takes the smallest share of a budget's cap.

    Raises ``BadInput`` where no order has a positive cap, or the mechanism has no finite cost at any.
    """
    candidates: list[tuple[float, float, int]] = []
    for order in (*range(2, 64), *_LONG_ORDERS):
        cap = filter_cap(epsilon, delta, order)
        cost = rdp_at_order(mechanism, order) if cap > 0 else math.inf
        if math.isfinite(cost):
            candidates.append((cost / cap, -cap, order))
    if not candidates:
        raise BadInput(
            f"filter: epsilon = {epsilon:g}, delta = {delta:g}: no order up to {LARGEST_ORDER} "
            "can grant anything to this mechanism; raise epsilon, or add noise"
        )
    return min(candidates)[2]


def _check_order(order: int) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or not 2 <= order <= LARGEST_ORDER:
        raise BadInput(f"filter: order = {order!r}: must be a whole number from 2 to {LARGEST_ORDER}")


def _curve(parts: tuple[Part, ...]) -> NDArray[np.float64]:
    """Rényi divergence of all parts together at each of ``ORDERS``."""
    total = np.zeros(len(ORDERS))
    for part in parts:
        match part:
            case SampledGaussian(sample_rate, noise, steps):
                total = total + steps * _sampled_gaussian_curve(sample_rate, noise)
            case _:
                total = total + count_of(part) * np.asarray([_one_unsampled(part, order) for order in ORDERS])
    return total


def _one_at_integer(part: Part, order: int) -> float:
    if isinstance(part, SampledGaussian):
        return _sampled_gaussian_at_integer(part.sample_rate, part.noise_multiplier, order)
    return _one_unsampled(part, float(order))


def _one_unsampled(part: Part, order: float) -> float:
    """One release: Gaussian a/(2 s^2) (Mironov 2017, Prop. 7), Laplace (ibid., Prop. 6)."""
    match part:
        case Gaussian(noise, _) if noise >= SMALLEST_NOISE:
            return order / (2 * noise * noise)
        case Laplace(scale, _) if scale >= SMALLEST_NOISE:
            loss = 1 / scale
            # loss + ln(1 + (a - 1)/(2a - 1) (e^((1 - 2a) loss) - 1)) / (a - 1): Proposition 6 rearranged
            shrink = (order - 1) / (2 * order - 1) * math.expm1((1 - 2 * order) * loss)
            return loss + math.log1p(shrink) / (order - 1)
        case _:
            return math.inf


@lru_cache(maxsize=512)
def _sampled_gaussian_curve(sample_rate: float, noise: float) -> NDArray[np.float64]:
    curve = np.full(len(ORDERS), np.inf)
    if noise < SMALLEST_NOISE:
        return curve
    whole = [order.is_integer() for order in ORDERS]
    for place in np.flatnonzero(whole):
        curve[place] = _sampled_gaussian_at_integer(sample_rate, noise, int(ORDERS[place]))
    if noise >= _SMALLEST_FOR_FRACTIONS:
        broken = np.flatnonzero(np.logical_not(whole))
        curve[broken] = _sampled_gaussian_by_quadrature(sample_rate, noise, np.asarray(ORDERS)[broken])
    curve.flags.writeable = False
    return curve


@lru_cache(maxsize=4096)
def _sampled_gaussian_at_integer(sample_rate: float, noise: float, order: int) -> float:
    """One step at an integer order a (Mironov, Talwar, Zhang 2019, section 3.3).

    A - 1 = sum over k >= 2 of C(a, k) (1 - q)^(a - k) q^k (e^((k^2 - k) / (2 s^2)) - 1): the terms k = 0, 1
    of A add nothing, and without the leading 1 a tiny divergence keeps all its digits.
    """
    if noise < SMALLEST_NOISE:
        return math.inf
    k = np.arange(2, order + 1)
    choose = _LOG_FACTORIALS[order] - _LOG_FACTORIALS[k] - _LOG_FACTORIALS[order - k]
    growth = k * (k - 1) / (2 * noise * noise)
    weights = choose + (order - k) * math.log1p(-sample_rate) + k * math.log(sample_rate)
    terms = weights + growth + np.log(-np.expm1(-growth))
    return _log_one_plus(terms) / (order - 1)


def _sampled_gaussian_by_quadrature(
    sample_rate: float, noise: float, orders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One step at real orders a, from the definition A = E[(1 + u)^a], u = q (e^((2x - 1) / (2 s^2)) - 1).

    x is N(0, s^2), E[u] = 0, so A - 1 = E[(1 + u)^a - 1 - a u], all of it positive. The trapezoidal rule
    converges geometrically: the integrand's nearest singularity lies at imaginary part pi s^2, and a spacing
    of at most s^2 / 2 leaves e^-39 (Trefethen, Weideman 2014, Theorem 5.1).
    """
    spacing = min(noise / 8, noise * noise / 2)
    top = float(orders[-1]) + _TAIL_WIDTHS * noise
    x = np.arange(-_TAIL_WIDTHS * noise, top, spacing)
    log_density = -x * x / (2 * noise * noise) + math.log(spacing / (noise * math.sqrt(2 * math.pi)))
    exponent = (2 * x - 1) / (2 * noise * noise)
    log_ratio = np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + exponent)
    shift = np.minimum(sample_rate * np.expm1(np.minimum(exponent, 700.0)), 2.0)
    return np.asarray(
        [_log_one_plus(log_density + _log_excess(order, log_ratio, shift)) / (order - 1) for order in orders]
    )


def _log_excess(order: float, log_ratio: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln((1 + u)^a - 1 - a u), given L = ln(1 + u) and u: a series where u is small, logarithms where large.

    1 + a u = e^L (a + (1 - a) e^-L), so the large form is a L + ln(1 - e^((1 - a) L) (a + (1 - a) e^-L)).
    """
    series = order * (order - 1) / 2 * u * u * (1 + (order - 2) * u / 3 * (1 + (order - 3) * u / 4))
    middle = np.expm1(order * np.minimum(log_ratio, 1.0)) - order * u
    above = np.maximum(log_ratio, 1.0)
    part = np.exp((1 - order) * above) * (order + (1 - order) * np.exp(-above))
    with np.errstate(divide="ignore"):
        direct = np.log(np.maximum(np.where(np.abs(u) < 1e-3, series, middle), 0.0))
    return np.where(log_ratio > 1.0, order * above + np.log1p(-part), direct)


def _log_one_plus(terms: NDArray[np.float64]) -> float:
    """ln(1 + sum of e^terms)."""
    largest = float(np.max(terms))
    if not math.isfinite(largest):
        return 0.0 if largest < 0 else math.inf
    return float(np.logaddexp(0.0, largest + math.log(float(np.sum(np.exp(terms - largest))))))
