"""Numbered checks, what each found, and the verdict that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

__all__ = ["Check", "Finding", "LedgerCheck", "Severity", "Verdict", "checked"]

Verdict: TypeAlias = Literal["passed", "failed", "not-possible"]
"""``not-possible``: something that the check needs was not given, or an earlier check failed."""


class Severity(StrEnum):
    """How much a finding weighs, the heaviest first."""

    VIOLATION = "violation"
    """A claim did not survive: its check has failed."""
    GAP = "gap"
    """Something needed is missing: its check is not possible as a whole."""
    WARNING = "warning"
    """Legal, but somebody should ask about it."""
    INFORMATION = "information"
    """Worth knowing."""


class LedgerCheck(StrEnum):
    """The checks of a ledger audit, in the order in which they are made; their place is their number."""

    FORM = "form"
    """Framing, header and schema: every byte is what the format allows."""
    KEY = "key"
    """The ledger is signed by a key that the auditor has from elsewhere, and each key has one ledger."""
    CHAIN = "hash chain"
    """Hashes are right, sequences are 1, 2, 3, ..., each entry follows the one before, the last is the head."""
    SIGNATURES = "signatures"
    """Each entry is signed by the site's key."""
    ORDER = "order"
    """The order rules of docs/ledger-format.md, O2 (closed budgets) and O7 (lowered budgets) apart."""
    WITNESSED = "witnessed heads"
    """Every head that a coordinator witnessed is in the ledger: nothing truncated, forked or rolled back."""
    RECORDED = "recorded rounds are in the ledgers"
    """Each round of a coordinator's record was reserved and settled, with the same mechanism, at each site."""
    LEDGERED = "ledgered rounds are in the records"
    """Each round that a ledger reserved for a run is in the run's record."""
    POLICY = "policy over time"
    """Budgets only lowered, nothing reserved after a close, beyond a limit, or after an approval's end."""
    BUDGET = "budget"
    """What was charged stays within the terms."""
    FIGURES = "figures"
    """The epsilons that a coordinator recorded are those that its recorded mechanisms give."""

    @property
    def number(self) -> int:
        """From 1, as reports print it."""
        return list(LedgerCheck).index(self) + 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found."""

    check: LedgerCheck
    severity: Severity
    where: str
    """The ledger, run or witness file that it is about."""
    what: str
    entry: int = 0
    """The ledger's entry at fault, or that a witnessed head names; 0 where it is about no single one."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Check:
    """A check, its verdict, and its findings, the heaviest first."""

    check: LedgerCheck
    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def number(self) -> int:
        """From 1."""
        return self.check.number

    @property
    def name(self) -> str:
        """In words."""
        return self.check.value


def checked(findings: list[Finding]) -> tuple[Check, ...]:
    """Every check with its findings: failed by a violation, otherwise not possible by a gap, otherwise passed."""
    weight = list(Severity)
    found = []
    for check in LedgerCheck:
        own = sorted((f for f in findings if f.check is check), key=lambda f: weight.index(f.severity))
        verdict: Verdict = "passed"
        if own and own[0].severity is Severity.VIOLATION:
            verdict = "failed"
        elif own and own[0].severity is Severity.GAP:
            verdict = "not-possible"
        found.append(Check(check, verdict, tuple(own)))
    return tuple(found)
