"""Witnessed heads against a ledger's own."""

from __future__ import annotations

from common.privacy.ledger.details import GENESIS, Closed, Head
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.heads import head_problem, missing_heads, restored_for_all
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from tests.common.privacy.ledger.samples import DATA, STORY, chained, opened

ENTRIES = chained(STORY)
NEWER, OTHER = Head(sequence=9, hash="a" * 64), Head(sequence=2, hash="a" * 64)


def told(*more: Draft) -> History:
    history = History()
    for entry in chained([*STORY, *more]):
        advance(history, entry)
    return history


def test_p08_newer_and_other_heads_are_told_apart() -> None:
    assert missing_heads(told(), [GENESIS, ENTRIES[2].head]) == ()
    newer, other = missing_heads(told(), [NEWER, OTHER])
    assert (newer.what, other.what) == ("missing entries", "another history")
    assert str(newer) == "missing entries: head 9 (aaaaaaaaaaaaaaaa) was witnessed"


def test_p08_every_coordinator_must_have_been_asked() -> None:
    history = told()
    history.coordinators |= {"north", "south"}
    assert "head of north, south, west" in str(head_problem(history, DATA, {}, "west"))
    asked = {"north": None, "south": ENTRIES[0].head}
    assert head_problem(history, DATA, asked) is None
    assert "missing entries" in str(head_problem(history, DATA, asked | {"north": NEWER}))


def test_p08_a_lost_head_is_mended_dataset_by_dataset() -> None:
    mended = Draft(dataset=DATA, details=Closed(why="written-off", lost=NEWER))
    assert head_problem(told(mended), DATA, {"north": NEWER}) is None
    assert restored_for_all(told(mended), NEWER)
    both = told(opened(dataset="other"), mended)
    assert head_problem(both, "other", {"north": NEWER}) is not None
    assert not restored_for_all(both, NEWER)
    assert not restored_for_all(told(), NEWER)
    younger = told(mended, opened(dataset="younger"))
    assert head_problem(younger, "younger", {"north": NEWER}) is None
    assert restored_for_all(younger, NEWER)
