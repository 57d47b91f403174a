"""A ledger against its own policy, entry by entry: limits when they held, approvals before they ended.

That an epsilon is never raised and a closed budget never used are order rules, which verification has checked.
Whether the institution's policy asked for an approval is not in the ledger, so its absence is no finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from common.audit.findings import Finding, LedgerCheck, Severity
from common.audit.ledger_files import OpenedLedger
from common.privacy.ledger.details import Approved, Reserved
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.spending import overspent_budgets, price
from common.privacy.terms import cap

__all__ = ["budget_findings", "policy_findings"]

_Said: TypeAlias = tuple[Severity, str, int]
"""What is wrong, and with which entry."""


def policy_findings(ledgers: Sequence[OpenedLedger]) -> list[Finding]:
    """What each ledger reserved beyond a limit that held, or after an approval had ended."""
    return [
        Finding(LedgerCheck.POLICY, severity, ledger.name, what, entry)
        for ledger in ledgers
        for severity, what, entry in _over_time(ledger)
    ]


def budget_findings(ledgers: Sequence[OpenedLedger]) -> list[Finding]:
    """What was charged beyond the terms that a budget was opened with."""
    findings = []
    for ledger in ledgers:
        history = ledger.ledger.history
        found = [(Severity.VIOLATION, what, budget) for budget, what in overspent_budgets(history).items()]
        for dataset in sorted({budget.dataset for budget in history.budgets.values()}):
            budgets = history.of(dataset)
            if len(budgets) > 1:
                what = f'dataset "{dataset}" has {len(budgets)} budgets; their epsilons and deltas add'
                found.append((Severity.INFORMATION, what, 0))
        findings += [
            Finding(LedgerCheck.BUDGET, severity, ledger.name, what, entry) for severity, what, entry in found
        ]
    return findings


def _over_time(ledger: OpenedLedger) -> list[_Said]:
    history, said = History(), []
    for entry in ledger.ledger.entries:
        if isinstance(entry.details, Reserved):
            said += _approval(history, entry)
        elif isinstance(entry.details, Approved):
            said += _ended_at_once(entry, entry.details)
        advance(history, entry)
        if isinstance(entry.details, Reserved):
            said += _limit(history, entry, entry.details)
    return said


def _approval(history: History, entry: LedgerEntry) -> list[_Said]:
    """The study's last approval before the entry; times are the site's own statement."""
    ends = history.approved.get(entry.dataset, {}).get(entry.study or "")
    if ends is None or entry.time[:10] <= ends:
        return []
    what = f"entry {entry.sequence} ({entry.time[:10]}) reserved for a study whose approval ended on {ends}"
    return [(Severity.VIOLATION, what, entry.sequence)]


def _ended_at_once(entry: LedgerEntry, details: Approved) -> list[_Said]:
    if details.expires is None or entry.time[:10] <= details.expires:
        return []
    what = f"entry {entry.sequence} approves a study until {details.expires}, a day gone by"
    return [(Severity.WARNING, what, entry.sequence)]


def _limit(history: History, entry: LedgerEntry, details: Reserved) -> list[_Said]:
    """Whether the budget's limit at that moment held what it was charged with, this reservation included."""
    budget = history.budgets[details.budget]
    if budget.terms.kind == "plan" and entry.round is not None:
        return []  # a part of what the study's own entry was charged with
    charged, available = price(budget.terms, budget.charged()), cap(budget.terms, budget.limit)
    if charged <= available:
        return []
    what = f"entry {entry.sequence} brought budget {budget.sequence} to {charged:.6g}, and its limit then was "
    return [(Severity.VIOLATION, f"{what}{available:.6g}", entry.sequence)]
