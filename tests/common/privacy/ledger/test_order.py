"""The order rules: legal stories pass, each illegal one fails at its rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import AuditFailure
from common.privacy.ledger.details import Approved, Closed, Head, Released
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.mechanism import Composition, SampledGaussian
from common.privacy.terms import BudgetTerms
from tests.common.privacy.ledger.samples import (
    CLOSED,
    DATA,
    OTHER_STUDY,
    PLANNED,
    ROUND,
    STORY,
    STUDY,
    chained,
    lowered,
    opened,
    reserved,
    settled,
)

LOST = Head(sequence=9, hash="e" * 64)
HALF = SampledGaussian(0.02, 1.0, 25)
TWO_ROUNDS = SampledGaussian(0.02, 1.0, 100)


def told(*drafts: Draft) -> History:
    history = History()
    for entry in chained(drafts):
        advance(history, entry)
    return history


def released(why: str, number: int | None, lost: Head | None) -> Draft:
    details = Released.model_validate({"budget": 1, "why": why, "plan": None, "lost": lost})
    return Draft(dataset=DATA, study=STUDY, run="r", round=number, mechanism=ROUND, details=details)


LEGAL = {
    "a filter's rounds": STORY,
    "a plan and its rounds": (
        opened(PLANNED),
        reserved(None, TWO_ROUNDS),
        reserved(1),
        settled(1, 3),
        reserved(2),
    ),
    "a refund under a filter": (opened(), reserved(1), settled(1, 2, HALF, refund="public-fact")),
    "a retry under a filter": (opened(), reserved(1), settled(1, 2, outcome="failed"), reserved(1, retry_of=2)),
    "two budgets": (opened(), opened(PLANNED)),
    "settled after the end": (opened(), reserved(1), CLOSED, settled(1, 2, outcome="operator")),
    "a new budget after the end": (opened(), CLOSED, opened()),
    "re-entered": (opened(), released("re-entered", 1, LOST)),
    "a plan re-entered": (opened(PLANNED), released("re-entered", None, LOST), reserved(1)),
    "lowered twice": (opened(), lowered(2.0), lowered(1.5)),
}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_story_is_taken(name: str) -> None:
    assert told(*LEGAL[name]).head.sequence == len(LEGAL[name])


UNIT = BudgetTerms(epsilon=1.0, delta=1e-5, unit="example", declared_size=10)
NO_CAP = BudgetTerms(epsilon=8.0, delta=1e-5, unit="group", declared_size=10, kind="filter", order=2)
ILLEGAL = {
    "p05 no cap": ("O1", (opened(NO_CAP),)),
    "p06 another unit": ("O1", (opened(), opened(UNIT))),
    "before the budget": ("O2", (reserved(1),)),
    "no such budget": ("O2", (opened(), reserved(1, budget=7))),
    "another dataset's budget": ("O2", (opened(dataset="x"), reserved(1))),
    "after the end": ("O2", (opened(), CLOSED, reserved(1))),
    "p05 no plan yet": ("O3", (opened(PLANNED), reserved(1))),
    "p05 two plans": ("O3", (opened(PLANNED), reserved(None), reserved(None))),
    "p05 more than the plan": ("O3", (opened(PLANNED), reserved(None), reserved(1), reserved(2))),
    "p05 another run": ("O3", (opened(PLANNED), reserved(None), replace(reserved(1), run="s"))),
    "a filter without a round": ("O4", (opened(), reserved(None))),
    "p09 twice": ("O5", (opened(), reserved(1), settled(1, 2), reserved(1))),
    "p09 retry before settlement": ("O5", (opened(), reserved(1), reserved(1, retry_of=2))),
    "p09 retry of another": ("O5", (opened(), reserved(1), settled(1, 2), reserved(1, retry_of=3))),
    "p09 retry of nothing": ("O5", (opened(), reserved(1, retry_of=1))),
    "p09 retry under a plan": (
        "O5",
        (opened(PLANNED), reserved(None, TWO_ROUNDS), reserved(1), settled(1, 3), reserved(1, retry_of=3)),
    ),
    "settled twice": ("O6", (opened(), reserved(1), settled(1, 2), settled(1, 2))),
    "settles another round": ("O6", (opened(), reserved(1), settled(2, 2))),
    "settles another study": ("O6", (opened(), reserved(1), replace(settled(1, 2), study=OTHER_STUDY))),
    "p07 less without a reason": ("O6", (opened(), reserved(1), settled(1, 2, HALF))),
    "p07 more": ("O6", (opened(), reserved(1), settled(1, 2, TWO_ROUNDS, refund="public-fact"))),
    "p07 refund after a crash": (
        "O6",
        (opened(), reserved(1), settled(1, 2, HALF, refund="public-fact", outcome="failed")),
    ),
    "p07 refund by the operator": (
        "O6",
        (opened(), reserved(1), settled(1, 2, HALF, refund="earlier-output", outcome="operator")),
    ),
    "p07 refund under a plan": (
        "O6",
        (opened(PLANNED), reserved(None), reserved(1), settled(1, 3, HALF, refund="public-fact")),
    ),
    "p07 more noise": (
        "O6",
        (opened(), reserved(1), settled(1, 2, SampledGaussian(0.02, 2.0, 50), refund="public-fact")),
    ),
    "p06 raised": ("O7", (opened(), lowered(2.0), lowered(2.5))),
    "p06 raised above the first": ("O7", (opened(), lowered(3.1))),
    "p19 trusted, but not its unit": ("O8", (opened(), released("trusted-coordinator", 1, None))),
    "p08 re-entered without a head": ("O8", (opened(), released("re-entered", 1, None))),
    "p08 finished with a head": ("O8", (opened(), Draft(dataset=DATA, details=Closed(why="finished", lost=LOST)))),
    "approval of nothing": ("O9", (Draft(dataset=DATA, details=Approved(expires=None)),)),
    "no mechanism": ("O9", (opened(), replace(reserved(1), mechanism=None))),
    "no run": ("O9", (opened(), replace(reserved(1), run=None))),
    "a mechanism out of place": ("O9", (replace(opened(), mechanism=Composition(())),)),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_story_fails_at_its_rule(name: str) -> None:
    rule, drafts = ILLEGAL[name]
    history = told(*drafts[:-1])
    before = history.head
    with pytest.raises(AuditFailure, match=rf"^order rule {rule}: "):
        advance(history, chained(drafts)[-1])
    assert history.head == before


def test_p09_a_round_belongs_to_its_dataset() -> None:
    second = replace(reserved(1, budget=2), dataset="x")
    assert len(told(opened(), opened(dataset="x"), reserved(1), second).open_reservations) == 2
