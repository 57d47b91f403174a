"""Membership inference: true positives at a false positive rate, area under the curve, and what DP allows.

A score is higher the more a record looks like a member. Members and non-members must be drawn at random from
one distribution: a split by time or source measures drift. A result near chance proves no privacy; whether
the attack can attack at all shows on a twin without privacy (PRIVACY P20: on public data).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from common.audit.intervals import Interval, check_confidence, interval
from common.audit.trade_off import Curve
from common.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NON_MEMBERS_NEEDED",
    "TWIN_FACTOR",
    "RateAtRate",
    "area_under_curve",
    "area_under_curve_by_person",
    "can_attack",
    "rates_at",
]

_NORMAL = NormalDist()
NON_MEMBERS_NEEDED = 10
"""Expected false positives below which a rate is not measurable: 10,000 non-members for a rate of 0.1 %."""

TWIN_FACTOR = 5.0
"""Times the false positive rate that an attack must reach on a twin without privacy, to be called one."""


@dataclass(frozen=True, slots=True)
class RateAtRate:
    """The true positive rate at one false positive rate."""

    asked: float
    """The false positive rate that the threshold aims at."""
    outcome: Literal["within", "exceeds", "not-measurable"]
    """``exceeds``: the lower end lies above what the claim allows, a finding."""
    members: int
    """That were tested; as many chose the threshold, or one more."""
    non_members: int
    true_positives: Interval | None = None
    false_positives: Interval | None = None
    """As realised at the threshold."""
    most_allowed: float | None = None
    """By the claim, at the realised rate's upper end."""


def rates_at(
    members: ArrayLike, non_members: ArrayLike, asked: Sequence[float], claimed: Curve, confidence: float = 0.95
) -> tuple[RateAtRate, ...]:
    """Threshold from the first half of each group, rates from the second; scores must be in random order.

    Intervals are Clopper-Pearson at ``confidence`` each. A rate with fewer than ``NON_MEMBERS_NEEDED``
    expected false positives among all non-members is not measurable and gets no number. That a true claim is
    found exceeded has chance at most 1 - ``confidence`` for each rate asked.
    """
    check_confidence(confidence)
    choosing_in, testing_in = _halves(members)
    choosing_out, testing_out = _halves(non_members)
    del choosing_in  # a threshold for a false positive rate is a matter of non-members alone
    found = []
    for rate in asked:
        if not 0 < rate < 1:
            raise BadInput(f"membership: rate = {rate!r}: must be above 0 and below 1")
        counts = testing_in.size, testing_out.size
        if (choosing_out.size + testing_out.size) * rate < NON_MEMBERS_NEEDED:
            found.append(RateAtRate(rate, "not-measurable", *counts))
            continue
        threshold = _threshold(choosing_out, rate)
        true = interval(int(np.sum(testing_in > threshold)), counts[0], confidence)
        false = interval(int(np.sum(testing_out > threshold)), counts[1], confidence)
        allowed = claimed.most(false.upper)
        outcome: Literal["within", "exceeds"] = "exceeds" if true.lower > allowed else "within"
        found.append(RateAtRate(rate, outcome, *counts, true, false, allowed))
    return tuple(found)


def can_attack(twin: RateAtRate) -> bool:
    """Whether an attack on a twin without privacy reached five times its false positive rate."""
    if twin.true_positives is None or twin.false_positives is None:
        return False
    return twin.true_positives.lower >= TWIN_FACTOR * max(twin.asked, twin.false_positives.estimate)


def area_under_curve(members: ArrayLike, non_members: ArrayLike, confidence: float = 0.95) -> Interval:
    """Area under the ROC curve with DeLong's interval (DeLong, DeLong, Clarke-Pearson 1988); ties count half.

    For records that are independent; a person's several rows are not: :func:`area_under_curve_by_person`.
    """
    check_confidence(confidence)
    inside, outside = _scores(members), _scores(non_members)
    if min(inside.size, outside.size) < 2:
        raise BadInput("membership: needs at least two members and two non-members")
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    over_out = (ranks[: inside.size] - stats.rankdata(inside)) / outside.size
    over_in = 1 - (ranks[inside.size :] - stats.rankdata(outside)) / inside.size
    area = float(np.mean(over_out))
    spread = math.sqrt(np.var(over_out, ddof=1) / inside.size + np.var(over_in, ddof=1) / outside.size)
    width = _NORMAL.inv_cdf((1 + confidence) / 2) * spread
    return Interval(area, max(0.0, area - width), min(1.0, area + width))


def area_under_curve_by_person(
    members: Sequence[ArrayLike], non_members: Sequence[ArrayLike], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Area under the curve with a bootstrap interval over people, 1,000 draws; one array of scores a person."""
    check_confidence(confidence)
    inside, outside = [_scores(each) for each in members], [_scores(each) for each in non_members]
    if min(len(inside), len(outside)) < 2:
        raise BadInput("membership: needs at least two people in each group")
    draw = np.random.default_rng(seed)
    areas = [
        _area(
            np.concatenate([inside[i] for i in draw.integers(len(inside), size=len(inside))]),
            np.concatenate([outside[i] for i in draw.integers(len(outside), size=len(outside))]),
        )
        for _ in range(1000)
    ]
    ends = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(_area(np.concatenate(inside), np.concatenate(outside)), float(ends[0]), float(ends[1]))


def _area(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    ranks = stats.rankdata(np.concatenate([inside, outside]))[: inside.size]
    return float((ranks.sum() - inside.size * (inside.size + 1) / 2) / (inside.size * outside.size))


def _threshold(non_members: NDArray[np.float64], rate: float) -> float:
    """The score that at most a share ``rate`` of these non-members exceeds."""
    ordered = np.sort(non_members)
    return float(ordered[ordered.size - 1 - int(rate * ordered.size)])


def _halves(scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = _scores(scores)
    if values.size < 2:
        raise BadInput("membership: needs at least two scores in each group")
    middle = (values.size + 1) // 2
    return values[:middle], values[middle:]


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.all(np.isfinite(values)):
        raise BadInput("membership: scores must be a list of finite numbers")
    return values
