"""Auditing with one training run (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846).

Each of m canaries goes in with probability 1/2, by its own coin. After the run every canary has a score; the
highest are guessed "in", the lowest "out", on the others one abstains. How many guesses to make is fixed
beforehand. Canaries may interfere with each other and with other data: that weakens the bound, never voids it.
A fixed number of canaries that go in does void it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from common.audit.intervals import check_confidence
from common.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Guesses", "ceiling", "count_guesses", "one_run_epsilon", "one_run_p_value"]

_LARGEST = 100.0
_PRECISION = 1e-9


@dataclass(frozen=True, slots=True)
class Guesses:
    """The outcome of one run."""

    canaries: int
    """m: canaries whose inclusion was drawn."""
    made: int
    """r: guesses made, both ways; on the others one abstained."""
    right: int
    """v: guesses that were right."""

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries:
            raise BadInput(
                f"one run: {self.right} right of {self.made} guesses on {self.canaries} canaries: is impossible"
            )


def count_guesses(scores: ArrayLike, included: ArrayLike, guessed_in: int, guessed_out: int) -> Guesses:
    """Guess "in" for the highest scores and "out" for the lowest, and count what is right.

    Both numbers are fixed before the run. Ties are broken by the canary's place, which says nothing about
    whether it was in.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(included, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape or not np.all(np.isfinite(values)):
        raise BadInput("one run: needs a finite score and an inclusion for each canary")
    if min(guessed_in, guessed_out) < 0 or guessed_in + guessed_out > values.size:
        raise BadInput(f"one run: {guessed_in} + {guessed_out} guesses on {values.size} canaries: is impossible")
    order = np.argsort(values, kind="stable")
    low, high = order[:guessed_out], order[values.size - guessed_in :]
    right = int(np.sum(truth[high])) + int(np.sum(~truth[low]))
    return Guesses(values.size, guessed_in + guessed_out, right)


def one_run_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Bound of P[so many guesses right] if the run were (``epsilon``, ``delta``)-private (Theorem 5.2).

    beta + alpha m delta with W binomial of r trials at p = e^eps / (1 + e^eps), beta = P[W >= v] and alpha
    the largest (2/i) P[v > W >= v - i] over i = 1..v. Capped at 1.
    """
    if not 0 <= delta < 1 or epsilon < 0:
        raise BadInput(f"one run: epsilon = {epsilon!r}, delta = {delta!r}: must be from 0, delta below 1")
    right, probability = guesses.right, 1 / (1 + math.exp(-epsilon))
    at_least = stats.binom.sf(np.arange(right, -1, -1) - 1, guesses.made, probability)
    beta = float(at_least[0])
    alpha = 0.0
    if right and delta:
        places = np.arange(1, right + 1)
        alpha = float(np.max(2 / places * (at_least[1:] - beta)))
    return min(1.0, beta + alpha * guesses.canaries * delta)


def one_run_epsilon(guesses: Guesses, delta: float, confidence: float = 0.95) -> float:
    """Lower bound of epsilon: the largest one that the guesses refute; 0 if they refute none."""
    check_confidence(confidence)
    error = 1 - confidence
    if one_run_p_value(guesses, 0.0, delta) >= error:
        return 0.0
    lower, upper = 0.0, 1.0
    while upper < _LARGEST and one_run_p_value(guesses, upper, delta) < error:
        lower, upper = upper, upper * 2
    while upper - lower > _PRECISION:
        middle = (lower + upper) / 2
        if one_run_p_value(guesses, middle, delta) < error:
            lower = middle
        else:
            upper = middle
    return lower


def ceiling(canaries: int, delta: float, confidence: float = 0.95) -> float:
    """The bound if every guess is made and right: no claim above it can be contradicted by so many canaries.

    With delta 0 it is ln(x / (1 - x)), x = (1 - confidence)^(1/m).
    """
    return one_run_epsilon(Guesses(canaries, canaries, canaries), delta, confidence)
