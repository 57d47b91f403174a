"""What entries add up to."""

from __future__ import annotations

from common.privacy.ledger.details import GENESIS, Head
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.mechanism import Composition
from tests.common.privacy.ledger.samples import DATA, ROUND, STORY, STUDY, chained, opened, reserved, settled


def test_a_story_adds_up() -> None:
    history, entries = History(), chained([*STORY, reserved(3)])
    for entry in entries:
        advance(history, entry)
    (budget,) = history.of(DATA)
    assert budget.limit == 2.9
    assert budget.settled == type(ROUND)(0.02, 1.0, 100)
    assert budget.charged() == budget.rounds() == type(ROUND)(0.02, 1.0, 150)
    assert list(history.open_reservations) == [7]
    assert set(history.rounds) == {(DATA, STUDY, "r", number) for number in (1, 2, 3)}
    assert history.head == entries[-1].head
    assert history.of("other") == []


def test_it_knows_every_head_it_had_and_no_other() -> None:
    history, entries = History(), chained(STORY)
    for entry in entries:
        advance(history, entry)
    assert all(history.knows(head) for head in (GENESIS, *(entry.head for entry in entries)))
    assert not history.knows(Head(sequence=7, hash="a" * 64))
    assert not history.knows(Head(sequence=3, hash=entries[3].hash))


def test_a_plan_without_a_study_is_charged_with_nothing() -> None:
    history = History()
    for entry in chained([opened(), reserved(1), settled(1, 2)]):
        advance(history, entry)
    assert history.budgets[1].unsettled == {}
    assert History().of(DATA) == []
    assert history.budgets[1].study_plan is None
    assert history.budgets[1].charged() != Composition(())
