"""The epsilons that a coordinator recorded, against those of the mechanisms that it recorded beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from common.audit.findings import Finding, LedgerCheck, Severity
from common.audit.ledger_files import OpenedLedger
from common.audit.ledger_heads import ledgers_of_sites
from common.audit.run_record import RecordedSite, RunEvidence
from common.privacy.coverage import together
from common.privacy.mechanism import NotPrivate
from common.privacy.spending import gauge, price
from common.privacy.terms import BudgetTerms

__all__ = ["TOLERANCE", "figure_findings"]

TOLERANCE = 1e-3
"""Share of epsilon by which two grids of one accountant may differ."""


def figure_findings(ledgers: Sequence[OpenedLedger], runs: Sequence[RunEvidence]) -> list[Finding]:
    """Every site's recorded epsilon after its last round, recomputed; and that it never fell on the way."""
    if not runs:
        return [Finding(LedgerCheck.FIGURES, Severity.GAP, "all ledgers", "no run record was given")]
    findings = []
    for run in runs:
        heads = run.witness.heads if run.witness else ()
        sites = {site.site for each in run.rounds for site in each.sites}
        by_site = ledgers_of_sites(sites | {head.site for head in heads}, heads, ledgers)
        for site in sorted(sites):
            rounds = [found for each in run.rounds for found in each.sites if found.site == site]
            terms = _terms(by_site[site], run.run) if site in by_site else None
            findings += [
                Finding(LedgerCheck.FIGURES, severity, f'{run.name}: site "{site}"', what)
                for severity, what in _figures(rounds, terms)
            ]
    return findings


def _terms(ledger: OpenedLedger, run: str) -> BudgetTerms | None:
    history = ledger.ledger.history
    return next((history.budgets[budget].terms for key, budget in history.runs.items() if key[2] == run), None)


def _figures(rounds: Sequence[RecordedSite], terms: BudgetTerms | None) -> list[tuple[Severity, str]]:
    said: list[tuple[Severity, str]] = []
    recorded = [math.inf if each.epsilon is None else each.epsilon for each in rounds]
    for place in range(1, len(recorded)):
        if recorded[place] < recorded[place - 1]:
            what = (
                f"epsilon fell from {recorded[place - 1]:.6g} to {recorded[place]:.6g} in its record {place + 1}"
            )
            said.append((Severity.VIOLATION, what))
    if any(isinstance(each.mechanism, NotPrivate) for each in rounds) and math.isfinite(recorded[-1]):
        what = "it gave updates without noise; the epsilon is the coordinator's own, which no site's ledger shows"
        return [*said, (Severity.GAP, what)]
    if terms is None:
        what = "its budget's terms are in no ledger given, so its epsilon could not be recomputed"
        return [*said, (Severity.GAP, what)]
    charged = price(terms, together(*(each.mechanism for each in rounds)))
    exact = gauge(terms, charged)
    if recorded[-1] < exact * (1 - TOLERANCE):
        what = f"recorded epsilon {recorded[-1]:.6g}, and its mechanisms cost {exact:.6g}"
        said.append((Severity.VIOLATION, what))
    elif math.isfinite(recorded[-1]) and recorded[-1] > exact * (1 + TOLERANCE) + TOLERANCE:
        what = f"recorded epsilon {recorded[-1]:.6g}, more than the {exact:.6g} that its mechanisms cost"
        said.append((Severity.WARNING, what))
    return said
