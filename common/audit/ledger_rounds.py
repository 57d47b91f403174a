"""A coordinator's record of rounds against the ledgers, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from common.audit.findings import Finding, LedgerCheck, Severity
from common.audit.ledger_files import OpenedLedger
from common.audit.ledger_heads import ledgers_of_sites
from common.audit.run_record import RecordedSite, RunEvidence
from common.privacy.coverage import covers
from common.privacy.ledger.details import Released, Reserved, Settled
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.mechanism import Composition

__all__ = ["round_findings"]

_Said: TypeAlias = tuple[Severity, str, int]
"""What is wrong, and with which entry; 0 where one is missing."""


@dataclass(slots=True)
class _LedgeredRound:
    """What one ledger holds of one round."""

    charged: list[LedgerEntry] = field(default_factory=list)
    """``reserve`` and ``release`` entries, in order."""
    settled: dict[int, LedgerEntry] = field(default_factory=dict)
    """By the reservation's place."""


def round_findings(ledgers: Sequence[OpenedLedger], runs: Sequence[RunEvidence]) -> list[Finding]:
    """Compare every run's record with the ledgers, both ways."""
    if not runs:
        return [
            Finding(check, Severity.GAP, "all ledgers", "no run record was given")
            for check in (LedgerCheck.RECORDED, LedgerCheck.LEDGERED)
        ]
    findings = []
    for run in runs:
        sites = {site.site for each in run.rounds for site in each.sites}
        heads = run.witness.heads if run.witness else ()
        by_site = ledgers_of_sites(sites | {head.site for head in heads}, heads, ledgers)
        for site in sorted(sites):
            if site in by_site:
                findings += _recorded(run, site, by_site[site])
            else:
                what = f'the ledger of site "{site}" was not given, or cannot be told from others'
                findings.append(Finding(LedgerCheck.RECORDED, Severity.GAP, run.name, what))
        findings += _ledgered(run, by_site, ledgers)
    return findings + _unknown_runs(ledgers, {run.run for run in runs})


def _rounds_of(ledger: OpenedLedger, run: str) -> dict[int, _LedgeredRound]:
    found: dict[int, _LedgeredRound] = {}
    for entry in ledger.ledger.entries:
        if entry.run != run or entry.round is None:
            continue
        if isinstance(entry.details, Reserved | Released):
            found.setdefault(entry.round, _LedgeredRound()).charged.append(entry)
        elif isinstance(entry.details, Settled):
            found.setdefault(entry.round, _LedgeredRound()).settled[entry.details.reservation] = entry
    return found


def _recorded(run: RunEvidence, site: str, ledger: OpenedLedger) -> list[Finding]:
    rounds, findings = _rounds_of(ledger, run.run), []
    for each in run.rounds:
        recorded = next((found for found in each.sites if found.site == site), None)
        if recorded is not None:
            said = _one_recorded(recorded, rounds.get(each.round, _LedgeredRound()))
            where = f'{ledger.name}: round {each.round} of run {run.run[:16]} (site "{site}")'
            findings += [
                Finding(LedgerCheck.RECORDED, severity, where, what, entry) for severity, what, entry in said
            ]
    return findings


def _one_recorded(recorded: RecordedSite, held: _LedgeredRound) -> list[_Said]:
    if not held.charged:
        if recorded.replied:
            return [(Severity.VIOLATION, "the coordinator has the update, and the ledger has no reservation", 0)]
        return []
    last = held.charged[-1]
    said = []
    if not covers(last.mechanism or Composition(()), recorded.mechanism):
        what = f"entry {last.sequence} holds less than what was recorded as released"
        said.append((Severity.VIOLATION, what, last.sequence))
    elif not covers(recorded.mechanism, last.mechanism or Composition(())):
        what = f"entry {last.sequence} holds more than what was recorded as released"
        said.append((Severity.WARNING, what, last.sequence))
    if isinstance(last.details, Reserved):
        said += _settling(recorded, last, held.settled.get(last.sequence))
    return said


def _settling(recorded: RecordedSite, reservation: LedgerEntry, settled: LedgerEntry | None) -> list[_Said]:
    place = reservation.sequence
    if settled is None:
        if recorded.replied:
            what = f"the coordinator has the update, and reservation {place} was never settled"
            return [(Severity.VIOLATION, what, place)]
        return [(Severity.WARNING, f"reservation {place} is open; it counts whole", place)]
    assert isinstance(settled.details, Settled)  # as _rounds_of sorted them
    said = []
    if recorded.replied and settled.details.outcome != "completed":
        what = f"the coordinator has the update, and entry {settled.sequence} says {settled.details.outcome}"
        said.append((Severity.WARNING, what, settled.sequence))
    if recorded.replied and not covers(settled.mechanism or Composition(()), recorded.mechanism):
        what = f"entry {settled.sequence} counts less than what was recorded, as a {settled.details.refund} refund"
        said.append((Severity.WARNING, what, settled.sequence))
    return said


def _ledgered(
    run: RunEvidence, by_site: Mapping[str, OpenedLedger], ledgers: Sequence[OpenedLedger]
) -> list[Finding]:
    recorded = {(site.site, each.round) for each in run.rounds for site in each.sites}
    names = {ledger.name: site for site, ledger in by_site.items()}
    findings = []
    for ledger in ledgers:
        for number, held in sorted(_rounds_of(ledger, run.run).items()):
            where = f"{ledger.name}: round {number} of run {run.run[:16]}"
            first = held.charged[0].sequence if held.charged else 0
            if ledger.name not in names and any(site not in by_site for site, _ in recorded):
                what = f"entry {first} is of one of the record's sites, and which cannot be told; name its key"
                findings.append(Finding(LedgerCheck.LEDGERED, Severity.GAP, where, what, first))
            elif ledger.name not in names:
                what = f"entry {first} belongs to a site that the record does not name"
                findings.append(Finding(LedgerCheck.LEDGERED, Severity.VIOLATION, where, what, first))
            elif (names[ledger.name], number) not in recorded:
                findings.append(_unrecorded(run, number, where, first))
    return findings


def _unrecorded(run: RunEvidence, number: int, where: str, entry: int) -> Finding:
    if not run.finished and number == run.started:
        what = f"entry {entry} reserved it, and the coordinator was cut off in it: it counts, unrecorded"
        return Finding(LedgerCheck.LEDGERED, Severity.WARNING, where, what, entry)
    what = f"entry {entry} reserved it, and the coordinator's record does not have it"
    return Finding(LedgerCheck.LEDGERED, Severity.VIOLATION, where, what, entry)


def _unknown_runs(ledgers: Sequence[OpenedLedger], known: set[str]) -> list[Finding]:
    findings = []
    for ledger in ledgers:
        for run in sorted({entry.run for entry in ledger.ledger.entries if entry.run} - known):
            what = f"the record of run {run[:16]} was not given"
            findings.append(Finding(LedgerCheck.LEDGERED, Severity.GAP, ledger.name, what))
    return findings
