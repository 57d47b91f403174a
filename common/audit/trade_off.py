"""What a privacy guarantee allows an attacker at most: trade-off curves.

A curve answers, for an event that has probability x without a unit's data, how probable it can be with it
(``most``) and how improbable (``least``); ``most(x) = 1 - least(1 - x)``. For a guess "member" at false
positive rate x, ``most(x)`` is the highest true positive rate.

==================  =========================================================================================
``ProfileCurve``    from (epsilon, delta) pairs, all of which hold: one pair, or the profile of a mechanism
``GaussianCurve``   of a mu-GDP mechanism (Dong, Roth, Su 2022); true of DP-SGD only if nothing is sampled
==================  =========================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol

import numpy as np
from scipy import optimize, special

from common.errors import BadInput
from common.privacy.accounting import LARGEST_EPSILON
from common.privacy.losses import Release, compose, one_release
from common.privacy.mechanism import (
    Gaussian,
    Laplace,
    Mechanism,
    NotPrivate,
    Part,
    SampledGaussian,
    count_of,
    merge,
)
from common.privacy.pld import interval_for

__all__ = [
    "Curve",
    "GaussianCurve",
    "ProfileCurve",
    "curve_of",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_mu",
    "most_area",
]

_NORMAL = NormalDist()
_POINTS = 800
_LEAST_DELTA = 1e-10
_LARGEST_MU = 100.0


class Curve(Protocol):
    """A trade-off curve; see the module."""

    def least(self, probability: float) -> float:
        """Least probability, in the other world, of an event that has ``probability`` in this one."""
        ...

    def most(self, probability: float) -> float:
        """Most probability, in the other world, of an event that has ``probability`` in this one."""
        ...


@dataclass(frozen=True, slots=True)
class GaussianCurve:
    """N(mu, 1) against N(0, 1)."""

    mu: float

    def least(self, probability: float) -> float:
        """Phi(Phi^-1(x) - mu)."""
        return self._moved(probability, -self.mu)

    def most(self, probability: float) -> float:
        """Phi(Phi^-1(x) + mu)."""
        return self._moved(probability, self.mu)

    def _moved(self, probability: float, by: float) -> float:
        _check_probability(probability)
        if probability in (0.0, 1.0):
            return probability
        return _NORMAL.cdf(_NORMAL.inv_cdf(probability) + by)


@dataclass(frozen=True, slots=True)
class ProfileCurve:
    """The mechanism is (``epsilons[i]``, ``deltas[i]``)-private for every i, in both directions.

    Each pair bounds an event and its complement; the tightest counts. Fewer pairs give a looser bound, never
    a wrong one.
    """

    epsilons: tuple[float, ...]
    deltas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.epsilons or len(self.epsilons) != len(self.deltas):
            raise BadInput("trade-off: needs as many deltas as epsilons, and at least one")
        if min(self.epsilons) < 0 or not all(0 <= delta <= 1 for delta in self.deltas):
            raise BadInput("trade-off: epsilons must be from 0, deltas from 0 to 1")

    def most(self, probability: float) -> float:
        """The smallest of e^eps x + delta and 1 - e^-eps (1 - delta - x), at most 1."""
        _check_probability(probability)
        epsilons, deltas = np.asarray(self.epsilons), np.asarray(self.deltas)
        with np.errstate(over="ignore"):
            direct = np.exp(epsilons) * probability + deltas if probability else deltas
        complement = 1 - np.exp(-epsilons) * np.maximum(0.0, 1 - deltas - probability)
        return float(min(1.0, direct.min(), complement.min()))

    def least(self, probability: float) -> float:
        """1 - most(1 - x)."""
        return 1 - self.most(1 - probability)


def curve_of(mechanism: Mechanism) -> ProfileCurve:
    """The profile delta(epsilon) of a recorded mechanism by PLD, the larger direction, on 800 epsilons.

    Raises:
        BadInput: a part is not private.
        RunFailed: a part has too little noise for any finite privacy loss.
    """
    parts = merge(mechanism)
    if not parts:
        return ProfileCurve((0.0,), (0.0,))
    once = [_once(part) for part in parts]
    spacing = interval_for(mechanism)
    composed = None
    while composed is None:  # a window too wide for memory is tried on a coarser grid
        composed = compose([one_release(part, spacing) for part in once], [count_of(part) for part in parts])
        spacing *= 2
    farthest = min(composed.epsilon(_LEAST_DELTA), LARGEST_EPSILON)
    epsilons = np.linspace(0.0, farthest, _POINTS)
    return ProfileCurve(tuple(map(float, epsilons)), tuple(min(1.0, composed.delta(float(e))) for e in epsilons))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """delta(eps) = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu) (Balle, Wang 2018, Theorem 8)."""
    if mu == 0:
        return 0.0
    other = float(special.log_ndtr(-mu / 2 - epsilon / mu)) + epsilon
    return max(0.0, float(special.ndtr(mu / 2 - epsilon / mu)) - math.exp(other))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a mu-GDP mechanism at ``delta``; 0 if it is (0, delta)-private."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    upper = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1
    return float(optimize.brentq(lambda eps: gaussian_delta(mu, eps) - delta, 0.0, upper, xtol=1e-12))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose mechanism is (``epsilon``, ``delta``)-private."""
    return float(optimize.brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 0.0, _LARGEST_MU, xtol=1e-12))


def most_area(mu: float) -> float:
    """The largest area under the ROC curve that mu-GDP allows: Phi(mu / sqrt 2)."""
    return _NORMAL.cdf(mu / math.sqrt(2))


def _once(part: Part) -> Release:
    match part:
        case SampledGaussian():
            return replace(part, steps=1)
        case Gaussian() | Laplace():
            return replace(part, count=1)
        case NotPrivate():
            raise BadInput(f"trade-off: not private ({part.reason}), which allows everything")


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise BadInput(f"trade-off: probability = {probability!r}: must be from 0 to 1")
