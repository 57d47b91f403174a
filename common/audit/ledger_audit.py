"""The audit of ledgers: files and public keys in, numbered checks and recomputed epsilons out.

What it proves is PRIVACY P1, and no more; ``LedgerAudit.unproven`` says so in every result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.audit.findings import Check, Finding, LedgerCheck, Severity, checked
from common.audit.ledger_figures import figure_findings
from common.audit.ledger_files import Bundle, OpenedLedger, TrustedKey, open_bundles
from common.audit.ledger_heads import head_findings
from common.audit.ledger_policy import budget_findings, policy_findings
from common.audit.ledger_rounds import round_findings
from common.audit.recomputed import RecomputedEpsilon, in_words, recompute
from common.audit.run_record import RunEvidence, Witness
from common.privacy.ledger.details import Opened

__all__ = ["ADJACENCY", "SAMPLING", "UNPROVEN", "AuditedLedger", "LedgerAudit", "audit_ledgers"]

UNPROVEN = (
    "Not proven: that the recorded mechanism is what ran. That rests on each site's own guard, whose build the "
    "ledger's first entry names, and on the empirical audits that the site ran. Nor is it proven that no person "
    "is in two datasets, nor that no entry is missing behind the last one that somebody witnessed."
)
"""What stays unproven whatever the checks say (PRIVACY P1)."""

ADJACENCY = "Neighbouring datasets differ by one unit added or removed."
SAMPLING = (
    "Where a release states a rate, each unit enters each step by itself with that probability (Poisson "
    "sampling); a release without a rate is over all units. That a site sampled so is part of what is not proven."
)
"""What the accountants assume of the recorded mechanisms (PRIVACY P3)."""
_UNITS = {
    "example": "Unit example is one row: figures hold per person only where a person has one row in all.",
    "group": "Unit group is a person with all rows at a site.",
}


@dataclass(frozen=True, slots=True)
class AuditedLedger:
    """A ledger that was verified, in short."""

    name: str
    site: str
    """"" if neither a key nor a label says."""
    public_key: str
    entries: int
    head: str
    """Hash of the last entry."""
    builds: tuple[str, ...]
    """Digests of the guard's build as its ``open`` entries name them; "" where unknown."""


@dataclass(frozen=True, slots=True)
class LedgerAudit:
    """The result of an audit."""

    checks: tuple[Check, ...]
    """Every check, by number."""
    ledgers: tuple[AuditedLedger, ...]
    """Those that were verified; a bundle that was not stands in the findings."""
    figures: tuple[RecomputedEpsilon, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that found a violation."""
        return tuple(check for check in self.checks if check.verdict == "failed")

    @property
    def unproven(self) -> str:
        """What stays unproven whatever the checks say (PRIVACY P1)."""
        return UNPROVEN

    @property
    def guarantee(self) -> str:
        """Adjacency, the unit, and what that means for a person (PRIVACY P2, P3)."""
        units = {unit for figure in self.figures for unit in figure.unit.split(" and ")}
        said = [ADJACENCY, *(_UNITS[unit] for unit in sorted(units))]
        return " ".join(said)

    def to_json(self) -> dict[str, object]:
        """A plain dictionary of all of it; numbers without a finite value are null."""
        return {
            "checks": [_check_json(check) for check in self.checks],
            "ledgers": [
                {
                    "name": ledger.name,
                    "site": ledger.site,
                    "public_key": ledger.public_key,
                    "entries": ledger.entries,
                    "head": ledger.head,
                    "builds": list(ledger.builds),
                }
                for ledger in self.ledgers
            ],
            "figures": [_figure_json(figure) for figure in self.figures],
            "guarantee": self.guarantee,
            "sampling": SAMPLING,
            "unproven": self.unproven,
        }


def audit_ledgers(
    bundles: Sequence[Bundle],
    keys: Sequence[TrustedKey] = (),
    witnesses: Sequence[Witness] = (),
    runs: Sequence[RunEvidence] = (),
    second_opinion: bool = True,
) -> LedgerAudit:
    """Make every check of :class:`common.audit.findings.LedgerCheck`.

    Args:
        bundles: the sites' ledgers as exported.
        keys: the sites' public keys, from a source that the auditor trusts; without any, check 2 is not possible.
        witnesses: heads that coordinators saw, beside those in ``runs``.
        runs: coordinators' records.
        second_opinion: also ask Opacus for PRV, which takes seconds and never changes a verdict.

    Raises:
        BadInput: one of ``keys`` is malformed. Whatever the bundles hold is a finding.
    """
    opened, findings = open_bundles(bundles, keys)
    findings += head_findings(opened, witnesses, runs)
    findings += round_findings(opened, runs)
    findings += policy_findings(opened)
    findings += budget_findings(opened)
    findings += figure_findings(opened, runs)
    if not bundles:
        findings += [Finding(check, Severity.GAP, "audit", "no ledger was given") for check in LedgerCheck]
    return LedgerAudit(
        checks=checked(findings),
        ledgers=tuple(_summary(ledger) for ledger in opened),
        figures=recompute(opened, second_opinion),
    )


def _summary(opened: OpenedLedger) -> AuditedLedger:
    entries = opened.ledger.entries
    builds = dict.fromkeys(entry.details.build for entry in entries if isinstance(entry.details, Opened))
    return AuditedLedger(
        name=opened.name,
        site=opened.site or opened.label,
        public_key=opened.ledger.public_key,
        entries=len(entries),
        head=opened.ledger.head.hash,
        builds=tuple(builds),
    )


def _check_json(check: Check) -> dict[str, object]:
    return {
        "number": check.number,
        "name": check.name,
        "verdict": check.verdict,
        "findings": [
            {
                "severity": str(finding.severity),
                "where": finding.where,
                "what": finding.what,
                "entry": finding.entry or None,
            }
            for finding in check.findings
        ],
    }


def _figure_json(figure: RecomputedEpsilon) -> dict[str, object]:
    return {
        "scope": figure.scope,
        "name": figure.name,
        "unit": figure.unit,
        "mechanism": in_words(figure.mechanism),
        "delta": figure.delta,
        "claimed": _finite(figure.claimed),
        "pld": _finite(figure.pld),
        "rdp": _finite(figure.rdp),
        "prv": _finite(figure.prv),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or value == float("inf") else value
