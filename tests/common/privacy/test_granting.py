"""Which budget grants a request: pure, so no database is needed."""

from __future__ import annotations

import pytest

from common.errors import BadInput
from common.privacy.granting import (
    Refusal,
    RoundRequest,
    StudyUse,
    budget_for_round,
    budget_for_study,
    budget_named,
    first_try,
    held_study,
)
from common.privacy.ledger.details import Closed
from common.privacy.ledger.entry import Draft
from common.privacy.mechanism import SampledGaussian
from tests.common.privacy.ledger.samples import CLOSED, DATA, FILTER, PLAN, PLANNED, ROUND, STUDY, opened, reserved
from tests.common.privacy.test_spending import told

USE = StudyUse(STUDY, "r", 1e-5)
NEW = StudyUse(STUDY, "new", 1e-5)
LARGE = SampledGaussian(0.02, 1.0, 300)


def test_the_first_budget_that_fits_grants() -> None:
    history = told(opened(), reserved(1, LARGE), opened())
    assert budget_for_round(history, DATA, NEW, LARGE).sequence == 3
    assert budget_for_round(history, DATA, NEW, ROUND).sequence == 1
    assert budget_for_study(history, DATA, NEW, LARGE).sequence == 3


def test_a_run_stays_with_its_budget() -> None:
    history = told(opened(), reserved(1, LARGE), opened())
    held = held_study(history, DATA, USE)
    assert held is not None
    assert held.sequence == 1
    with pytest.raises(Refusal, match=r"budget 1: spent 0, reserved 0\.83"):
        budget_for_round(history, DATA, USE, LARGE)


@pytest.mark.parametrize(
    ("story", "code"),
    [
        ((), "no-budget"),
        ((opened(PLANNED),), "not-admitted"),
        ((opened(), CLOSED), "budget-exceeded"),
        ((opened(FILTER.model_copy(update={"delta": 1e-6})),), "delta-differs"),
        (
            (opened(PLANNED), reserved(None), Draft(dataset=DATA, details=Closed(why="finished", lost=None))),
            "closed",
        ),
    ],
)
def test_a_refusal_has_a_code(story: tuple[Draft, ...], code: str) -> None:
    with pytest.raises(Refusal) as refused:
        budget_for_round(told(*story), DATA, USE, ROUND)
    assert refused.value.code == code


def test_a_round_never_reserved_is_no_retry() -> None:
    assert first_try(told(opened()), DATA, USE, RoundRequest(1, PLAN, ROUND, retry=True)) is None


def test_a_budget_is_found_by_place_or_is_the_newest() -> None:
    history = told(opened(), opened())
    assert budget_named(history, DATA, None).sequence == 2
    assert budget_named(history, DATA, 1).sequence == 1
    with pytest.raises(BadInput, match="no budget 7"):
        budget_named(history, DATA, 7)
