"""Figures of a budget, against the golden values of ACCOUNTING.md."""

from __future__ import annotations

import math

import pytest

from common.privacy.ledger.entry import Draft
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.mechanism import Composition, NotPrivate, SampledGaussian
from common.privacy.spending import claim, fits, overspent, price, spending, spending_of
from tests.common.privacy.golden_values import ROWS
from tests.common.privacy.ledger.samples import (
    CLOSED,
    DATA,
    FILTER,
    PLANNED,
    chained,
    lowered,
    opened,
    reserved,
    settled,
)

R1 = SampledGaussian(0.02, 1.0, 300)
PLAN = SampledGaussian(0.04, 0.8, 125)
"""Row S05: 5.1181 by PLD at delta 1e-5."""


def told(*drafts: Draft) -> History:
    history = History()
    for entry in chained(drafts):
        advance(history, entry)
    return history


def test_p06_a_filter_counts_open_rounds_whole() -> None:
    (found,) = spending(told(opened(), reserved(1, R1)), DATA)
    assert (found.spent, found.reserved) == pytest.approx((0.0, 0.83031), abs=5e-6)
    assert found.left == pytest.approx(1.23809 - 0.83031, abs=1e-5)
    assert found.gauge == pytest.approx(2.5922, abs=5e-5)
    assert found.measure == "RDP at order 6"


def test_p07_a_refund_is_not_counted_after_settlement() -> None:
    half = SampledGaussian(0.02, 1.0, 100)
    (found,) = spending(told(opened(), reserved(1, R1), settled(1, 2, half, refund="public-fact")), DATA)
    assert (found.spent, found.reserved) == pytest.approx((0.27677, 0.0), abs=5e-6)


def test_p07_a_plan_is_spent_whole_when_reserved() -> None:
    assert next(row.mechanism for row in ROWS if row.name.startswith("S05")) == PLAN
    (found,) = spending(told(opened(PLANNED), reserved(None, PLAN)), DATA)
    assert (found.spent, found.reserved, found.left) == (pytest.approx(5.1181, abs=5e-5), 0.0, 0.0)
    assert found.gauge == found.spent


def test_p06_budgets_of_a_dataset_add() -> None:
    found = claim(told(opened(), opened(PLANNED), opened(PLANNED, "other")), DATA)
    assert (found.epsilon, found.delta) == (pytest.approx(11.0), pytest.approx(2e-5))


def test_p06_a_limit_lowered_after_the_first_release_lowers_no_claim() -> None:
    assert claim(told(opened(), lowered(2.0)), DATA).epsilon == 2.0
    late = told(opened(), reserved(1), lowered(2.0))
    assert claim(late, DATA).epsilon == 3.0
    assert spending(late, DATA)[0].epsilon == 2.0


def test_a_closed_budget_has_nothing_left() -> None:
    history = told(opened(), CLOSED)
    (found,) = spending(history, DATA)
    assert (found.left, found.closed) == (0.0, True)
    assert not fits(history.budgets[1], Composition(()))


def test_no_guarantee_costs_infinity() -> None:
    assert price(FILTER, NotPrivate("x")) == price(PLANNED, NotPrivate("x")) == math.inf
    assert price(FILTER, Composition(())) == price(PLANNED, SampledGaussian(0.1, 1.0, 0)) == 0.0
    found = spending_of(told(opened(), reserved(1, NotPrivate("x"))).budgets[1])
    assert (found.reserved, found.left, found.gauge) == (math.inf, 0.0, math.inf)


def test_overspending_in_a_ledger_is_seen() -> None:
    """The order rules ask no accountant; an auditor does."""
    assert overspent(told(opened(), reserved(1, R1))) == ()
    (said,) = overspent(told(opened(), reserved(1, R1), reserved(2, R1)))
    assert "budget 1" in said
    assert claim(told(opened(), reserved(1, R1), reserved(2, R1)), DATA).epsilon > 3.0
