"""After entries were lost: enter them again at whole cost, or write the whole budget off (PRIVACY P8).

Either names the head that was lost, so that an auditor who holds it finds the explanation in the ledger, and
sees that it is one: ``VerifiedLedger.restored`` lists such heads. Every dataset that has a budget when the
mending begins is mended by itself. Where a budget's opening was lost too, open it again first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import BadInput
from common.privacy.granting import budget_named
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Closed, Head, Released
from common.privacy.ledger.entry import Draft, LedgerEntry
from common.privacy.mechanism import Mechanism

__all__ = ["LostRelease", "reenter", "write_off"]


@dataclass(frozen=True, slots=True)
class LostRelease:
    """A round, or under a plan a whole study (no round), whose entry was lost."""

    study: str
    run: str
    round: int | None
    plan: str | None
    """Digest of what the coordinator asked for in the round."""
    mechanism: Mechanism
    """All that it was reserved for."""
    budget: int | None = None
    """The place of its budget; None for the dataset's newest."""


def reenter(ledger: Ledger, dataset: str, lost: Head, releases: Sequence[LostRelease]) -> tuple[LedgerEntry, ...]:
    """Enter lost releases again, whole, in one transaction; the dataset may then reserve again.

    They are charged even beyond the budget: what was released was released. Under a plan a lost study comes
    before its rounds.
    """
    if not releases:
        raise BadInput("recovery: no release was given; name every round since the backup, or write off")
    found = []
    with ledger.writing() as page:
        _check_lost(page.history.knows(lost), lost)
        for release in releases:
            budget = budget_named(page.history, dataset, release.budget)
            details = Released(budget=budget.sequence, why="re-entered", plan=release.plan, lost=lost)
            draft = Draft(
                dataset=dataset,
                study=release.study,
                run=release.run,
                round=release.round,
                mechanism=release.mechanism,
                details=details,
            )
            found.append(page.append(draft))
    return tuple(found)


def write_off(ledger: Ledger, dataset: str, lost: Head, note: str = "") -> LedgerEntry:
    """Give up all that is left of a dataset's budgets, because what was lost is not known."""
    with ledger.writing() as page:
        _check_lost(page.history.knows(lost), lost)
        return page.append(Draft(dataset=dataset, details=Closed(why="written-off", lost=lost), note=note))


def _check_lost(known: bool, lost: Head) -> None:
    if known:
        raise BadInput(f"recovery: head {lost.sequence} ({lost.hash[:16]}) is known; nothing is missing")
