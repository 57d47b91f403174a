"""Entries that cost nothing: policies, approvals, refusals, the end of a dataset's budgets."""

from __future__ import annotations

import logging
from datetime import date
from typing import Final

from common.errors import BadInput
from common.privacy.ledger.book import Ledger, Page
from common.privacy.ledger.details import Approved, Closed, Policy, Refused, Released
from common.privacy.ledger.entry import Draft, LedgerEntry
from common.privacy.mechanism import Mechanism

__all__ = [
    "MOST_REFUSALS",
    "adopt_policy",
    "append_refusal",
    "approval_holds",
    "approve_study",
    "close_dataset",
    "record_refusal",
    "record_trusted_release",
]

MOST_REFUSALS: Final = 200
"""Refusals recorded in one hour. A coordinator that invents studies must not fill the site's disk."""

_log = logging.getLogger("hanse.ledger")


def adopt_policy(ledger: Ledger, dataset: str, digest: str, note: str = "") -> LedgerEntry:
    """Record that the policy whose SHA-256 is ``digest`` holds from here on."""
    with ledger.writing() as page:
        return page.append(Draft(dataset=dataset, details=Policy(policy=digest, lower=None), note=note))


def approve_study(ledger: Ledger, dataset: str, study: str, expires: date | None = None) -> LedgerEntry:
    """Record the officer's approval of a study's digest (P18); the last one for a study holds."""
    ends = None if expires is None else expires.isoformat()
    with ledger.writing() as page:
        return page.append(Draft(dataset=dataset, study=study, details=Approved(expires=ends)))


def approval_holds(ledger: Ledger, dataset: str, study: str, today: date) -> bool:
    """Whether a study was approved and the approval has not ended before ``today``."""
    with ledger.reading() as history:
        approvals = history.approved.get(dataset, {})
        if study not in approvals:
            return False
        ends = approvals[study]
        return ends is None or today.isoformat() <= ends


def record_refusal(ledger: Ledger, draft: Draft) -> None:
    """Record a refusal of the policy; the draft's details are :class:`Refused`. See :func:`append_refusal`."""
    with ledger.writing() as page:
        append_refusal(page, draft)


def append_refusal(page: Page, draft: Draft) -> None:
    """Append a refusal, unless the same (dataset, study, run, round, code) was refused before.

    Beyond :data:`MOST_REFUSALS` in an hour one is no less a refusal, but the log alone has it.
    The note leaves the site with a bundle: it must be a function of plan, policy and ledger alone (P15).
    """
    if not isinstance(draft.details, Refused):
        raise BadInput("refusal: details must be a Refused")
    if (draft.dataset, draft.study, draft.run, draft.round, draft.details.code) in page.history.refused:
        return
    if page.history.refusals_by_hour.get(page.hour, 0) >= MOST_REFUSALS:
        _log.warning("not in the ledger: %d refusals in this hour; refused: %s", MOST_REFUSALS, draft.details.code)
        return
    page.append(draft)


def record_trusted_release(
    ledger: Ledger, dataset: str, mechanism: Mechanism, study: str, run: str, round_number: int
) -> LedgerEntry:
    """Record an update given to a trusted coordinator without noise (P19); unit "institution" only.

    It is charged to nothing here: the guarantee is the coordinator's, against everyone but itself.
    """
    with ledger.writing() as page:
        budgets = [budget for budget in page.history.of(dataset) if not budget.closed]
        if not budgets:
            raise BadInput(f'dataset "{dataset}": has no open budget; open one first')
        details = Released(budget=budgets[-1].sequence, why="trusted-coordinator", plan=None, lost=None)
        return page.append(
            Draft(dataset=dataset, study=study, run=run, round=round_number, mechanism=mechanism, details=details)
        )


def close_dataset(ledger: Ledger, dataset: str, note: str = "") -> LedgerEntry:
    """End every budget of a dataset: nothing more is granted, whatever is left."""
    with ledger.writing() as page:
        return page.append(Draft(dataset=dataset, details=Closed(why="finished", lost=None), note=note))
