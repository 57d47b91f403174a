"""Membership inference figures: exact small cases, slow obvious versions, sound verdicts, and controls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit.intervals import Interval
from common.audit.membership import (
    RateAtRate,
    area_under_curve,
    area_under_curve_by_person,
    can_attack,
    rates_at,
)
from common.audit.trade_off import GaussianCurve
from common.errors import BadInput

CHANCE = GaussianCurve(0.0)
scores = st.lists(st.integers(0, 5).map(float), min_size=2, max_size=12)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(members: list[float], non_members: list[float]) -> None:
    pairs = [(inside > outside) + 0.5 * (inside == outside) for inside in members for outside in non_members]
    found = area_under_curve(members, non_members)
    assert found.estimate == pytest.approx(np.mean(pairs))
    assert 0 <= found.lower <= found.estimate <= found.upper <= 1


def test_delong_s_interval_by_hand() -> None:
    """Structural components: members .5, 1, 1 over two non-members, non-members 1, 2/3."""
    found = area_under_curve([2.0, 4.0, 5.0], [1.0, 3.0])
    variance = np.var([0.5, 1, 1], ddof=1) / 3 + np.var([1, 2 / 3], ddof=1) / 2
    assert found.estimate == pytest.approx(5 / 6)
    assert found.lower == pytest.approx(5 / 6 - 1.959964 * variance**0.5, abs=1e-6)


def test_the_area_s_intervals_cover() -> None:
    """True area Phi(1/sqrt 2) = .7602; 400 runs at 95 %: fewer than 361 covered happens once in 1,000."""
    draw, covered = np.random.default_rng(1), 0
    for _ in range(400):
        found = area_under_curve(draw.normal(1, 1, 100), draw.normal(0, 1, 100))
        covered += found.lower <= 0.76025 <= found.upper
    assert covered >= 361


def test_rows_of_one_person_widen_the_interval() -> None:
    draw = np.random.default_rng(2)
    members = [np.repeat(draw.normal(1, 1), 10) for _ in range(50)]
    others = [np.repeat(draw.normal(0, 1), 10) for _ in range(50)]
    by_row = area_under_curve(np.concatenate(members), np.concatenate(others))
    by_person = area_under_curve_by_person(members, others)
    assert by_person.estimate == pytest.approx(by_row.estimate)
    assert by_person.upper - by_person.lower > 2.5 * (by_row.upper - by_row.lower)


def test_a_rate_that_cannot_be_measured_gets_no_number() -> None:
    """FPR 0.1 % needs 10,000 non-members."""
    few, many = rates_at(np.arange(10.0), np.arange(9_998.0), [0.001, 0.01], CHANCE)
    assert (few.outcome, few.true_positives, few.most_allowed) == ("not-measurable", None, None)
    assert many.outcome != "not-measurable"
    (enough,) = rates_at(np.arange(10.0), np.arange(10_000.0), [0.001], CHANCE)
    assert enough.outcome != "not-measurable"


def test_the_threshold_is_from_one_half_and_the_rates_from_the_other() -> None:
    members = [0.0, 0.0, 5.0, 0.5]
    non_members = [0.1 * place for place in range(100)] + [9.05] * 3 + [0.0] * 97
    (found,) = rates_at(members, non_members, [0.1], CHANCE)
    assert (found.members, found.non_members) == (2, 100)
    assert found.true_positives is not None
    assert found.false_positives is not None
    # The threshold that a tenth of the first hundred exceeds is 8.9: in the second half three do, no member does.
    assert found.true_positives.estimate == 0.0
    assert found.false_positives.estimate == pytest.approx(0.03)


def _rates(mu: float, claimed: float, seed: int, rate: float = 0.01) -> RateAtRate:
    draw = np.random.default_rng(seed)
    (found,) = rates_at(draw.normal(mu, 1, 5000), draw.normal(0, 1, 5000), [rate], GaussianCurve(claimed))
    return found


def test_a_true_claim_is_not_exceeded_and_a_false_one_is() -> None:
    """A true claim is exceeded in at most 5 % of runs: over 21 of 200 once in 1,000. mu 2 for 1: certain."""
    assert sum(_rates(1.0, 1.0, seed).outcome == "exceeds" for seed in range(200)) <= 21
    assert all(_rates(2.0, 1.0, seed).outcome == "exceeds" for seed in range(10))


def test_an_attack_must_work_on_a_twin_without_privacy() -> None:
    assert can_attack(_rates(2.0, 0.0, 1))
    assert not can_attack(_rates(0.5, 0.0, 1))
    assert not can_attack(RateAtRate(0.001, "not-measurable", 10, 10))
    assert not can_attack(
        RateAtRate(0.01, "within", 9, 9, Interval(0.2, 0.06, 0.3), Interval(0.02, 0.01, 0.03), 1.0)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: area_under_curve([1.0], [1.0, 2.0]),
        lambda: area_under_curve([np.nan, 1.0], [1.0, 2.0]),
        lambda: area_under_curve_by_person([[1.0]], [[1.0], [2.0]]),
        lambda: rates_at([1.0], [1.0, 2.0], [0.1], CHANCE),
        lambda: rates_at([1.0, 2.0], [1.0, 2.0], [0.0], CHANCE),
        lambda: rates_at([1.0, 2.0], [1.0, 2.0], [0.1], CHANCE, 1.0),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        wrong()
