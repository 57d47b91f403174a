"""A posted price per unit of epsilon: the coordinator leads, sites follow (Stackelberg).

At price p a site maximises ``p epsilon - c epsilon^2 / 2`` and offers ``epsilon(p) = min(p / c, cap)``; its
surplus is never negative. The coordinator maximises ``U(p) = g(epsilon(p)) - p sum(epsilon(p))``. Caps make
kinks, and U may have several peaks, so every segment between kinks is searched and the kinks themselves are
candidates: no single local solver is to be trusted here.

Assumed: costs are known and quadratic, and taking part costs nothing but privacy. The posted price is truthful
only for a site that does not expect to be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from common.errors import BadInput

__all__ = [
    "Equilibrium",
    "Gain",
    "Seller",
    "equilibrium",
    "log_gain",
    "offers_at",
    "precision_gain",
    "unconstrained_log_price",
]

Gain: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Worth of epsilons, shape (..., sites), in money, shape (...); must grow slower than their square."""

_POINTS = 2001


@dataclass(frozen=True)
class Seller:
    """A site that sells epsilon."""

    name: str
    cost: float
    """c: a unit of epsilon more costs it c epsilon."""
    cap: float = math.inf
    """Most epsilon that its policy allows."""

    def __post_init__(self) -> None:
        if not (0 < self.cost < math.inf and self.cap > 0):
            raise BadInput(f"seller {self.name}: cost, cap = {self.cost}, {self.cap}: both must be greater than 0")


@dataclass(frozen=True)
class Equilibrium:
    """The coordinator's best price and the sites' answers."""

    price: float
    """Per unit of epsilon."""
    epsilons: Mapping[str, float]
    payments: Mapping[str, float]
    """Price times epsilon."""
    utility: float
    """The coordinator's: gain less payments."""
    gain: float


def offers_at(price: float, sellers: Sequence[Seller]) -> dict[str, float]:
    """Epsilon that each site offers at a price."""
    return {seller.name: min(price / seller.cost, seller.cap) for seller in sellers}


def equilibrium(sellers: Sequence[Seller], gain: Gain) -> Equilibrium:
    """The best price, to about 1e-7 where U is smooth.

    Searches a grid of 2,001 points on every segment between caps, refines every local peak of it, and compares
    with the kinks and with 0. A peak narrower than a grid step could be missed.

    Raises:
        BadInput: no seller, a name twice, or a gain for which no price is too high.
    """
    if not sellers or len({seller.name for seller in sellers}) != len(sellers):
        raise BadInput("sellers: at least one, with distinct names")

    def utility(prices: NDArray[np.float64]) -> NDArray[np.float64]:
        epsilons = _epsilons(prices, sellers)
        return np.asarray(gain(epsilons) - prices * epsilons.sum(axis=-1))

    kinks = sorted({seller.cost * seller.cap for seller in sellers if seller.cap < math.inf})
    if any(seller.cap == math.inf for seller in sellers):
        kinks.append(_too_high(utility, 2 * max([0.5, *kinks])))
    candidates = [0.0, *kinks]
    for low, high in zip([0.0, *kinks[:-1]], kinks, strict=True):
        candidates += _peaks(utility, low, high)
    values = utility(np.asarray(candidates))
    return _answer(candidates[int(np.argmax(values))], sellers, gain)


def log_gain(weights: Sequence[float], scale: float) -> Gain:
    """``scale * ln(1 + sum(w_i epsilon_i))``, in the order of the sellers."""
    factors = np.asarray(weights, np.float64)
    return lambda epsilons: np.asarray(scale * np.log1p(epsilons @ factors))


def precision_gain(
    sizes: Sequence[int], spread: float, noise_constant: float, public: float, scale: float
) -> Gain:
    """``scale * P / (P + public)`` with ``P`` the sum of precisions of ``server.economics.weighting``.

    Convex where epsilon is small, so a price of 0 may be a local maximum.
    """
    n = np.asarray(sizes, np.float64)

    def gain(epsilons: NDArray[np.float64]) -> NDArray[np.float64]:
        squares = (n * epsilons) ** 2
        # written so that a precision is 0, not nan, where epsilon is
        total = (squares / (spread * squares / n + noise_constant)).sum(axis=-1)
        return np.asarray(scale * total / (total + public))

    return gain


def unconstrained_log_price(weights: Sequence[float], costs: Sequence[float], scale: float) -> float:
    """The equilibrium of :func:`log_gain` without caps, in closed form; U is strictly concave there.

    ``(-E + sqrt(E^2 + 2 E scale W^2)) / (2 E W)`` with ``W = sum(w / c)`` and ``E = sum(1 / c)``.
    """
    worth = math.fsum(w / c for w, c in zip(weights, costs, strict=True))
    supply = math.fsum(1 / c for c in costs)
    return (-supply + math.sqrt(supply**2 + 2 * supply * scale * worth**2)) / (2 * supply * worth)


def _epsilons(prices: NDArray[np.float64], sellers: Sequence[Seller]) -> NDArray[np.float64]:
    costs = np.array([seller.cost for seller in sellers])
    caps = np.array([seller.cap for seller in sellers])
    return np.asarray(np.minimum(prices[..., None] / costs, caps))


def _too_high(utility: Gain, start: float) -> float:
    """A price above which nothing is to be had: U is below that of price 0, and lower still at the double."""
    price = start
    for _ in range(200):
        nothing, here, beyond = utility(np.array([0.0, price, 2 * price]))
        if here < nothing and beyond < here:
            return price
        price *= 2
    raise BadInput("gain: grows as fast as the square of epsilon or faster, so no price is best")


def _peaks(utility: Gain, low: float, high: float) -> list[float]:
    """Refined local maxima of a grid's values inside a segment."""
    grid = np.linspace(low, high, _POINTS)
    values = utility(grid)
    inner = values[1:-1]
    tops = 1 + np.flatnonzero((inner >= values[:-2]) & (inner >= values[2:]))
    ends = [1] * bool(values[0] > values[1]) + [_POINTS - 2] * bool(values[-1] > values[-2])
    found = []
    for top in sorted({*tops.tolist(), *ends}):
        refined = minimize_scalar(
            lambda price: -float(utility(np.asarray([price]))[0]),
            bounds=(grid[top - 1], grid[top + 1]),
            method="bounded",
            options={"xatol": 1e-11 * max(1.0, high)},
        )
        found.append(float(refined.x))
    return found


def _answer(price: float, sellers: Sequence[Seller], gain: Gain) -> Equilibrium:
    offers = offers_at(price, sellers)
    worth = float(gain(np.asarray(list(offers.values()))))
    payments = {name: price * epsilon for name, epsilon in offers.items()}
    return Equilibrium(price, offers, payments, worth - math.fsum(payments.values()), worth)
