"""Witnessed heads against a ledger's own: whether entries are missing (PRIVACY P8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from common.privacy.ledger.details import Head
from common.privacy.ledger.history import History

__all__ = ["MissingHead", "head_problem", "missing_heads", "restored_for", "restored_for_all"]


@dataclass(frozen=True, slots=True)
class MissingHead:
    """A head that somebody witnessed and the ledger never had."""

    head: Head
    what: Literal["missing entries", "another history"]
    """``missing entries``: it lies beyond the ledger's end. ``another history``: another entry has its place,
    as after a backup was restored and used, or where a key signs two ledgers."""

    def __str__(self) -> str:
        return f"{self.what}: head {self.head.sequence} ({self.head.hash[:16]}) was witnessed"


def missing_heads(history: History, witnessed: Iterable[Head]) -> tuple[MissingHead, ...]:
    """Those of ``witnessed`` that the ledger does not know, whether mended since or not."""
    found = []
    for head in witnessed:
        if not history.knows(head):
            beyond = head.sequence > history.head.sequence
            found.append(MissingHead(head, "missing entries" if beyond else "another history"))
    return tuple(found)


def head_problem(
    history: History,
    dataset: str,
    witnessed: Mapping[str, Head | None],
    coordinator: str = "",
    all_asked: bool = True,
) -> str | None:
    """Why ``dataset`` may reserve nothing, given the newest head of each coordinator; None if it may.

    Every coordinator that the ledger names must have been asked, and the one that asks now (a ledger that was
    lost whole names none); None stands for one that answered and never saw a head. Without ``all_asked`` only
    what was answered is looked at, which is enough where nothing is reserved yet.
    """
    needed = history.coordinators | ({coordinator} if coordinator else set())
    unasked = sorted(needed - set(witnessed))
    if unasked and all_asked:
        return f"the newest witnessed head of {', '.join(unasked)} was not fetched since the start"
    for witness in sorted(witnessed):
        head = witnessed[witness]
        for missing in missing_heads(history, [] if head is None else [head]):
            if not restored_for(history, missing.head, dataset):
                return f"{missing} by {witness}"
    return None


def restored_for(history: History, head: Head, dataset: str) -> bool:
    """Whether a lost head was mended for a dataset, or the dataset's first budget is younger than the mending."""
    if head not in history.restored:
        return False
    return dataset in history.restored[head] or dataset not in history.concerned[head]


def restored_for_all(history: History, head: Head) -> bool:
    """Whether a lost head was mended for every dataset that had a budget when the mending began."""
    return head in history.restored and history.concerned[head] <= history.restored[head]
