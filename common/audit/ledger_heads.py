"""Ledgers against the heads that coordinators witnessed: truncation, forks, rollbacks (PRIVACY P8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.audit.findings import Finding, LedgerCheck, Severity
from common.audit.ledger_files import OpenedLedger
from common.audit.run_record import RunEvidence, Witness, WitnessedHead
from common.privacy.ledger.details import GENESIS, Head, Reserved
from common.privacy.ledger.heads import missing_heads, restored_for_all

__all__ = ["head_findings", "ledgers_of_sites"]


def ledgers_of_sites(
    sites: Iterable[str], heads: Sequence[WitnessedHead], ledgers: Sequence[OpenedLedger]
) -> Mapping[str, OpenedLedger]:
    """Which ledger is which site's, as one coordinator names them; a site of which nothing tells is left out.

    By the names that come with trusted keys; otherwise the ledger that knows one of the site's heads; otherwise
    by the bundles' labels; otherwise, if one site and one ledger are left, that one. So a ledger that was
    replaced whole, and knows no head, cannot hide.
    """
    names = sorted(set(sites))
    found = {ledger.site: ledger for ledger in ledgers if ledger.site in names}
    for head in heads:
        if head.site in names and head.site not in found and head.head != GENESIS:
            known = (ledger for ledger in ledgers if ledger.ledger.history.knows(head.head))
            ledger = next(known, None)
            if ledger is not None:
                found[head.site] = ledger
    for name in names:
        labelled = [ledger for ledger in ledgers if ledger.label == name and ledger not in found.values()]
        if name not in found and len(labelled) == 1:
            found[name] = labelled[0]
    free_sites = [name for name in names if name not in found]
    free_ledgers = [ledger for ledger in ledgers if ledger not in found.values()]
    if len(free_sites) == len(free_ledgers) == 1:
        found[free_sites[0]] = free_ledgers[0]
    return found


def head_findings(
    ledgers: Sequence[OpenedLedger], witnesses: Sequence[Witness], runs: Sequence[RunEvidence]
) -> list[Finding]:
    """What the witnessed heads of every coordinator say against the ledgers."""
    all_witnesses = [*witnesses, *(run.witness for run in runs if run.witness is not None)]
    findings: list[Finding] = []
    seen: dict[str, int] = {}
    for witness in all_witnesses:
        by_site = ledgers_of_sites((head.site for head in witness.heads), witness.heads, ledgers)
        findings += _falling(witness)
        for site in sorted({head.site for head in witness.heads}):
            heads = [head.head for head in witness.heads if head.site == site]
            if site not in by_site:
                what = f'which of the ledgers is site "{site}"\'s cannot be told; name its key'
                findings.append(_found(Severity.GAP, witness.name, what))
                continue
            ledger = by_site[site]
            seen[ledger.name] = max([seen.get(ledger.name, 0), *(head.sequence for head in heads)])
            findings += _missing(ledger, heads, f'{witness.name}, site "{site}"')
    for ledger in ledgers:
        findings += _coverage(ledger, seen.get(ledger.name), _known_coordinators(ledger, witnesses, runs))
    return findings


def _falling(witness: Witness) -> list[Finding]:
    """A head that lies before one that the same coordinator had seen already."""
    newest: dict[str, WitnessedHead] = {}
    findings = []
    for head in witness.heads:
        last = newest.get(head.site)
        if last is not None and head.head.sequence < last.head.sequence:
            what = (
                f'site "{head.site}" went back from entry {last.head.sequence} (round {last.round}) '
                f"to entry {head.head.sequence} (round {head.round})"
            )
            findings.append(_found(Severity.VIOLATION, witness.name, what, head.head.sequence))
        else:
            newest[head.site] = head
    return findings


def _missing(ledger: OpenedLedger, heads: Sequence[Head], witness: str) -> list[Finding]:
    history = ledger.ledger.history
    findings = []
    for missing in missing_heads(history, dict.fromkeys(heads)):
        if restored_for_all(history, missing.head):
            what = f"{missing} by {witness}; it was lost and made up for"
            findings.append(_found(Severity.WARNING, ledger.name, what, missing.head.sequence))
        else:
            what = f"{missing} by {witness}"
            findings.append(_found(Severity.VIOLATION, ledger.name, what, missing.head.sequence))
    return findings


def _coverage(ledger: OpenedLedger, newest: int | None, known: set[str]) -> list[Finding]:
    findings = [
        _found(
            Severity.WARNING, ledger.name, f"head {head.sequence} was lost and made up for: ask how", head.sequence
        )
        for head in ledger.ledger.restored
    ]
    for coordinator in sorted(ledger.ledger.history.coordinators - known):
        what = f'heads witnessed by coordinator "{coordinator}", which it names, were not given'
        findings.append(_found(Severity.GAP, ledger.name, what))
    if newest is None:
        what = "no head of it was witnessed: entries cut off its end would not be missed"
        findings.append(_found(Severity.GAP, ledger.name, what))
    elif newest < ledger.ledger.head.sequence:
        what = f"entries after {newest} were witnessed by nobody"
        findings.append(_found(Severity.INFORMATION, ledger.name, what, newest))
    return findings


def _known_coordinators(
    ledger: OpenedLedger, witnesses: Sequence[Witness], runs: Sequence[RunEvidence]
) -> set[str]:
    """Those whose heads were given by name, or with the record of a run that the ledger says was theirs."""
    witnessed = {run.run for run in runs if run.witness is not None}
    named = {witness.coordinator for witness in witnesses}
    for entry in ledger.ledger.entries:
        if isinstance(entry.details, Reserved) and entry.run in witnessed:
            named.add(entry.details.coordinator)
    return named


def _found(severity: Severity, where: str, what: str, entry: int = 0) -> Finding:
    return Finding(LedgerCheck.WITNESSED, severity, where, what, entry)
