"""The order rules: what may follow what. Pure; no database, no accountant.

==  ==========================================================================================================
O1  ``open`` states valid terms; a filter's cap is positive; all budgets of a dataset have one unit
O2  ``reserve`` and ``release`` name a budget of their dataset, opened before and not closed since
O3  under a plan one entry without a round holds the whole study; its rounds belong to the same study and run,
    and are together a part of it (``common.privacy.coverage``)
O4  under a filter every reservation has a round
O5  a (dataset, study, run, round) is reserved once; under a filter once more for each retry, which names the
    last try, has its digest, and follows its settlement
O6  ``settle`` names an unsettled round of its own dataset, study, run and round, once, and counts all of it;
    less, but a part of it, only under a filter, where the round was completed, for a reason of the closed list
O7  ``policy`` lowers a budget of its dataset, never raises it
O8  ``release`` to a trusted coordinator happens under unit "institution" only; one re-entered names the head
    that was lost; so does a ``close`` that writes off, and no other
O9  ``approve``, ``reserve``, ``settle``, ``refuse`` name a study; ``reserve`` and ``settle`` a run; ``reserve``,
    ``settle`` and ``release`` have a mechanism, ``refuse`` may have one, and no other kind does
==  ==========================================================================================================

That the charges stay within the terms takes an accountant: ``common.privacy.spending``.
"""

from __future__ import annotations

from common.errors import AuditFailure, HanseError
from common.privacy.coverage import covers, together
from common.privacy.ledger.details import Approved, Closed, Opened, Policy, Refused, Released, Reserved, Settled
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.ledger.history import Budget, History, Reservation, reservation_of
from common.privacy.mechanism import Composition
from common.privacy.terms import check_cap

__all__ = ["advance", "check_order"]


def advance(history: History, entry: LedgerEntry) -> None:
    """Check ``entry`` and take it into ``history``; after an ``AuditFailure`` nothing has changed."""
    check_order(history, entry)
    history.take(entry)


def check_order(history: History, entry: LedgerEntry) -> None:
    """Raise ``AuditFailure`` unless the order rules allow ``entry`` next."""
    _check_common(entry)
    match entry.details:
        case Opened():
            _check_open(history, entry, entry.details)
        case Reserved():
            _check_reserve(history, entry, entry.details)
        case Settled():
            _check_settle(history, entry, entry.details)
        case Released():
            _check_release(history, entry, entry.details)
        case Policy():
            _check_policy(history, entry, entry.details)
        case Closed():
            lost = entry.details.lost
            _need("O8", (entry.details.why == "written-off") == (lost is not None), entry, "a lost head")
        case Approved() | Refused():
            pass


def _check_open(history: History, entry: LedgerEntry, details: Opened) -> None:
    units = {budget.terms.unit for budget in history.of(entry.dataset)}
    _need("O1", units <= {details.terms.unit}, entry, "the unit of the dataset's earlier budgets")
    try:
        check_cap(details.terms)
    except HanseError as error:
        raise AuditFailure(f"order rule O1: entry {entry.sequence}: {error}", 8, entry.sequence) from error


def _check_policy(history: History, entry: LedgerEntry, details: Policy) -> None:
    if details.lower is not None:
        budget = _budget(history, "O7", entry, details.lower.budget)
        _need("O7", details.lower.epsilon <= budget.limit, entry, "an epsilon at most the present one")


def _check_reserve(history: History, entry: LedgerEntry, details: Reserved) -> None:
    budget = _budget(history, "O2", entry, details.budget)
    _need("O2", not budget.closed, entry, "a budget that was not closed")
    wanted = reservation_of(entry, details)
    _check_place(budget, wanted, entry)
    if wanted.round is not None:
        last = history.rounds.get(wanted.name)
        _check_replay(history, budget, wanted, last, details.retry_of)
    else:
        _need("O5", details.retry_of is None, entry, "no retry of a whole study")


def _check_replay(
    history: History, budget: Budget, wanted: Reservation, last: Reservation | None, retry_of: int | None
) -> None:
    if last is None and retry_of is None:
        return
    legal = (
        last is not None
        and budget.terms.kind == "filter"
        and last.sequence == retry_of
        and last.plan == wanted.plan
        and last.sequence not in history.open_reservations
    )
    if not legal:
        raise AuditFailure(
            f"order rule O5: entry {wanted.sequence}: round {wanted.round} of the run was reserved before"
            if last
            else f"order rule O5: entry {wanted.sequence}: a retry of what was never reserved",
            check=8,
            entry=wanted.sequence,
        )


def _check_settle(history: History, entry: LedgerEntry, details: Settled) -> None:
    held = history.open_reservations.get(details.reservation)
    if held is None:
        raise AuditFailure(
            f"order rule O6: entry {entry.sequence}: settles no open reservation", 8, entry.sequence
        )
    named = (entry.dataset, entry.study, entry.run, entry.round)
    _need("O6", held.name == named, entry, "its own reservation")
    counted = entry.mechanism or Composition(())
    _need("O6", covers(held.mechanism, counted), entry, "at most what was reserved")
    if details.refund is None:
        _need("O6", covers(counted, held.mechanism), entry, "all of what was reserved, without a reason")
    else:
        kind = history.budgets[held.budget].terms.kind
        _need("O6", kind == "filter", entry, "a filter for a refund; a plan counts whole")
        _need("O6", details.outcome == "completed", entry, "a completed round for a refund")


def _check_release(history: History, entry: LedgerEntry, details: Released) -> None:
    budget = _budget(history, "O2", entry, details.budget)
    reentered = details.why == "re-entered"
    _need("O8", reentered == (details.lost is not None), entry, "a lost head, where re-entered")
    if reentered:
        _need("O9", entry.study is not None and entry.run is not None, entry, "a study and a run")
        wanted = reservation_of(entry, details)
        _check_place(budget, wanted, entry)
        known = wanted.round is not None and wanted.name in history.rounds
        _need("O5", not known or budget.terms.kind == "filter", entry, "a round not reserved before")
    else:
        _need("O2", not budget.closed, entry, "a budget that was not closed")
        _need("O8", budget.terms.unit == "institution", entry, 'unit "institution"')


def _budget(history: History, rule: str, entry: LedgerEntry, sequence: int) -> Budget:
    budget = history.budgets.get(sequence)
    if budget is None or budget.dataset != entry.dataset:
        what = f"order rule {rule}: entry {entry.sequence}: no budget {sequence} of its dataset"
        raise AuditFailure(what, 8, entry.sequence)
    return budget


def _check_common(entry: LedgerEntry) -> None:
    studied = isinstance(entry.details, Approved | Reserved | Settled | Refused)
    released = isinstance(entry.details, Reserved | Settled | Released)
    _need("O9", not studied or entry.study is not None, entry, "a study")
    if not isinstance(entry.details, Refused):
        _need("O9", released == (entry.mechanism is not None), entry, "a mechanism, or to have none")
    if isinstance(entry.details, Reserved | Settled):
        _need("O9", entry.run is not None, entry, "a run")


def _check_place(budget: Budget, wanted: Reservation, entry: LedgerEntry) -> None:
    """O3 and O4: whether a reservation suits the kind of its budget."""
    if budget.terms.kind == "filter":
        _need("O4", wanted.round is not None, entry, "a round")
        return
    plan = budget.study_plan
    if wanted.round is None:
        _need("O3", plan is None, entry, "a budget that holds no study yet")
        return
    same = plan is not None and (plan.study, plan.run) == (wanted.study, wanted.run)
    _need("O3", same, entry, "the study and run that the plan holds")
    fits = plan is not None and covers(plan.mechanism, together(budget.rounds(), wanted.mechanism))
    _need("O3", fits, entry, "a part of what is left of the plan")


def _need(rule: str, holds: bool, entry: LedgerEntry, what: str) -> None:
    if not holds:
        said = f"order rule {rule}: entry {entry.sequence} ({entry.kind}): needs {what}"
        raise AuditFailure(said, 8, entry.sequence)
