"""From what was read to what is reported: the audit of the ledgers, budgets over time, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from common.audit.ledger_audit import audit_ledgers
from common.audit.ledger_files import OpenedLedger, open_bundles
from common.build import build_digest
from common.privacy.ledger.details import Reserved
from deploy.audit.result import EmpiricalAudit
from deploy.audit_report.blocks import Section
from deploy.audit_report.evidence import evidence_sections
from deploy.audit_report.facts import AuditReport
from deploy.audit_report.gather import Gathered
from deploy.audit_report.guarantee import guarantee_sections
from deploy.audit_report.mechanism import mechanism_sections
from deploy.audit_report.timeline import budgets_over_time

__all__ = ["TITLE", "build_report", "sections_of"]

TITLE = "Hanse privacy audit"
_SOFTWARE = ("hanse", "dp-accounting", "opacus", "cryptography", "numpy", "scipy")


def build_report(given: Gathered, auditor: str | None = None, second_opinion: bool = True) -> AuditReport:
    """Audit the evidence and report on it; equal evidence gives equal reports but for the date.

    Args:
        given: what was read.
        auditor: who says so, in their own words.
        second_opinion: also ask Opacus for PRV, which takes seconds and never changes a verdict.
    """
    audit = audit_ledgers(given.bundles, given.keys, given.witnesses, given.runs, second_opinion)
    opened, _ = open_bundles(given.bundles, given.keys)
    return AuditReport(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        auditor=auditor,
        audit=audit,
        budgets=tuple(budget for ledger in opened for budget in budgets_over_time(ledger)),
        runs=given.run_facts,
        empirical=given.empirical,
        registered_in=_registered_in(opened, given.empirical),
        inputs=given.inputs,
        versions=_versions(),
        commands=_commands(given),
    )


def sections_of(report: AuditReport) -> tuple[Section, ...]:
    """The report in words; page and print show the same."""
    return (*guarantee_sections(report), *mechanism_sections(report), *evidence_sections(report))


def _registered_in(ledgers: Sequence[OpenedLedger], audit: EmpiricalAudit | None) -> str | None:
    """The ledger whose entry at the place that the audit names reserved for the plan with that digest."""
    if audit is None:
        return None
    for ledger in ledgers:
        named = [each.details for each in ledger.ledger.entries if each.sequence == audit.ledger_entry]
        if any(isinstance(each, Reserved) and each.plan == audit.registration_digest for each in named):
            return ledger.name
    return None


def _versions() -> Mapping[str, str]:
    found = {"build of client and common": build_digest()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _commands(given: Gathered) -> tuple[str, ...]:
    """By hand: one command for the whole audit, and one for each bundle that uses the single-file verifier."""
    bundles = [f"{bundle.site}={bundle.name}" for bundle in given.bundles]
    keys = [part for key in given.keys for part in ("--key", f"{key.site}={key.public_key}".lstrip("="))]
    seen = [
        part for each in given.witnesses for part in ("--witness", f"{each.coordinator}={each.name}".lstrip("="))
    ]
    runs = [part for run in given.runs for part in ("--run", run.name)]
    heads = [part for run in given.runs if run.witness for part in ("--witness", run.witness.name)]
    whole = shlex.join(["hanse", "audit", "ledger", *bundles, *keys, *seen, *runs])
    alone = shlex.join(["hanse", "audit", "verify-only", *bundles, *keys, *seen, *heads])
    if not given.keys:
        note = "# no public key was given to this audit; add each site's as --key, from a source that you trust"
        return (whole, note, f"{alone} --key PUBLIC_KEY")
    return (whole, alone)
