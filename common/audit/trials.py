"""Lower bounds from independent trials: repeated runs, or canaries that do not interact.

``excluded`` trials ran without a canary and ``included`` ones with it; a score above a threshold is a guess
"in". Score and threshold must be fixed before these trials are looked at. All bounds hold with the stated
confidence; a bound above the claim is a finding, a low bound proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from common.audit.intervals import check_confidence, upper_end
from common.audit.trade_off import Curve
from common.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ProfileVerdict",
    "Rule",
    "Trials",
    "best_rule",
    "count_trials",
    "epsilon_by_log_ratio",
    "epsilon_lower_bound",
    "mu_lower_bound",
    "profile_test",
]

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Trials:
    """Guesses and their errors."""

    excluded: int
    false_positives: int
    included: int
    false_negatives: int

    def __post_init__(self) -> None:
        if not 0 <= self.false_positives <= self.excluded:
            raise BadInput(f"trials: {self.false_positives} false positives of {self.excluded}: is impossible")
        if not 0 <= self.false_negatives <= self.included:
            raise BadInput(f"trials: {self.false_negatives} false negatives of {self.included}: is impossible")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which score is read, and above what value it says "in"."""

    score: int
    """Column of the score."""
    threshold: float


@dataclass(frozen=True, slots=True)
class ProfileVerdict:
    """Whether trials refute a trade-off curve."""

    refuted: bool
    true_positive_rate: float
    """Its lower end."""
    false_positive_rate: float
    """Its upper end."""
    most_allowed: float
    """What the curve allows at that false positive rate."""


def count_trials(excluded: ArrayLike, included: ArrayLike, threshold: float) -> Trials:
    """Count the errors of the guess "in" for every score above ``threshold``."""
    out, in_ = np.asarray(excluded, dtype=np.float64), np.asarray(included, dtype=np.float64)
    return Trials(out.size, int(np.sum(out > threshold)), in_.size, int(np.sum(~(in_ > threshold))))


def epsilon_lower_bound(trials: Trials, delta: float, confidence: float = 0.95) -> float:
    """The larger of ln((1 - delta - U_fp) / U_fn) and ln((1 - delta - U_fn) / U_fp), at least 0.

    U are Clopper-Pearson upper ends at half of the error each, so both hold together with ``confidence``
    (Jagielski, Ullman, Oprea 2020; Nasr et al. 2021).
    """
    fp, fn = _upper_ends(trials, confidence)
    found = [0.0]
    for one, other in ((fp, fn), (fn, fp)):
        if 1 - delta - one > 0:
            found.append(math.log((1 - delta - one) / other))
    return max(found)


def mu_lower_bound(trials: Trials, confidence: float = 0.95) -> float:
    """Mu >= Phi^-1(1 - U_fp) - Phi^-1(U_fn), at least 0 (Nasr et al. 2023, arXiv 2302.07956).

    A claim about Gaussian mechanisms only: one step given the sampler's draw, or no sampling.
    """
    fp, fn = _upper_ends(trials, confidence)
    if fp >= 1 or fn >= 1:
        return 0.0
    return max(0.0, _NORMAL.inv_cdf(1 - fp) - _NORMAL.inv_cdf(fn))


def epsilon_by_log_ratio(trials: Trials, delta: float, confidence: float = 0.95) -> float:
    """Katz's log-ratio bound, for comparison with papers; **no ground for a verdict**: it is asymptotic.

    ln((tpr - delta) / fpr) - z sqrt((1 - tpr) / tp + (1 - fpr) / fp); NaN without false positives.
    """
    check_confidence(confidence)
    tp = trials.included - trials.false_negatives
    if not trials.false_positives or not tp:
        return math.nan
    tpr, fpr = tp / trials.included, trials.false_positives / trials.excluded
    if tpr <= delta:
        return math.nan
    spread = math.sqrt((1 - tpr) / tp + (1 - fpr) / trials.false_positives)
    return math.log((tpr - delta) / fpr) - _NORMAL.inv_cdf(confidence) * spread


def profile_test(trials: Trials, claimed: Curve, confidence: float = 0.95) -> ProfileVerdict:
    """Refute a claim if the true positive rate's lower end exceeds what it allows at the false one's upper end.

    One-sided ends at half of the error each, so a true claim is refuted with chance at most 1 - confidence.
    Sound for whole runs of DP-SGD, with the curve of :func:`common.audit.trade_off.curve_of`, provided that
    the rule was chosen on other canaries (:func:`best_rule`).
    """
    fp, fn = _upper_ends(trials, confidence)
    allowed = claimed.most(fp)
    return ProfileVerdict(1 - fn > allowed, 1 - fn, fp, allowed)


def best_rule(
    excluded: NDArray[np.float64],
    included: NDArray[np.float64],
    claimed: Curve,
    false_positive_rates: Sequence[float] = (0.002, 0.01, 0.03, 0.1, 0.3, 0.5),
) -> Rule:
    """The score and threshold that come closest to refuting ``claimed`` on canaries kept for this choice.

    Rows are trials, columns scores. Thresholds are quantiles of the excluded canaries' scores: a threshold
    taken from a simulation of the claimed mechanism has no power, since less noise moves both distributions.
    """
    if excluded.ndim != 2 or included.ndim != 2 or excluded.shape[1] != included.shape[1]:
        raise BadInput("trials: needs two tables of the same scores, a row for each trial")
    rules = [
        Rule(score, float(np.quantile(excluded[:, score], 1 - rate)))
        for score in range(excluded.shape[1])
        for rate in false_positive_rates
    ]

    def margin(rule: Rule) -> float:
        counted = count_trials(excluded[:, rule.score], included[:, rule.score], rule.threshold)
        found = profile_test(counted, claimed)
        return found.true_positive_rate - found.most_allowed

    return max(rules, key=margin)


def _upper_ends(trials: Trials, confidence: float) -> tuple[float, float]:
    check_confidence(confidence)
    error = (1 - confidence) / 2
    return (
        upper_end(trials.false_positives, trials.excluded, error),
        upper_end(trials.false_negatives, trials.included, error),
    )
