"""One run against a whole trade-off curve (Mahloujifar, Melis, Chaudhuri 2025, arXiv 2410.22235).

Better than ``common.audit.one_run`` for Gaussian noise, because nothing is paid for reading a curve as one
(epsilon, delta). A mu that is turned into an epsilon is a claim about a mu-GDP mechanism only; for DP-SGD test
the curve of its own mechanism.
"""

from __future__ import annotations

from common.audit.intervals import check_confidence
from common.audit.one_run import Guesses
from common.audit.trade_off import Curve, GaussianCurve

__all__ = ["one_run_mu", "refutes"]

_LARGEST_MU = 64.0
_PRECISION = 1e-7


def refutes(guesses: Guesses, claimed: Curve, confidence: float = 0.95) -> bool:
    """Whether the guesses refute that the run keeps ``claimed``, at level 1 - confidence.

    Suppose that so many right guesses had probability 1 - confidence. A canary guessed right, among at least
    i + 1 right ones, is after a flip of its coin one guessed wrong among at least i; the curve ties the two
    masses. The recursion collects the least total mass, from v - 1 down to 0; it may not exceed r/m.
    """
    check_confidence(confidence)
    made, most = guesses.made, guesses.made / guesses.canaries
    right = (1 - confidence) * guesses.right / guesses.canaries
    wrong = (1 - confidence) * (made - guesses.right) / guesses.canaries
    for place in range(guesses.right - 1, -1, -1):
        if right + wrong > most:
            return True
        needed = max(wrong, claimed.least(right))
        right += place / (made - place) * (needed - wrong)
        wrong = needed
    return right + wrong > most


def one_run_mu(guesses: Guesses, confidence: float = 0.95) -> float:
    """Lower bound of mu: the largest mu-GDP curve that the guesses refute; 0 if they refute none."""
    if not refutes(guesses, GaussianCurve(0.0), confidence):
        return 0.0
    lower, upper = 0.0, _LARGEST_MU
    while upper - lower > _PRECISION:
        middle = (lower + upper) / 2
        if refutes(guesses, GaussianCurve(middle), confidence):
            lower = middle
        else:
            upper = middle
    return lower
