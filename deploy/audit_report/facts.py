"""What a report states: audit, budgets, runs, attacks, inputs. None is "not stated" or "not measured"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from common.audit.ledger_audit import LedgerAudit
from deploy.audit.result import EmpiricalAudit

__all__ = [
    "FORMAT",
    "AuditReport",
    "BudgetFacts",
    "InputFile",
    "Point",
    "RunFacts",
    "SiteRun",
]

FORMAT = "hanse-audit-report/1"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that the report rests on."""

    name: str
    """From its run directory, or its own name: the same on every machine."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Point:
    """A budget after one entry of its ledger."""

    entry: int
    time: str
    """To the hour, the site's own statement."""
    limit: float
    """Epsilon up to which it grants."""
    charged: float | None
    """Epsilon of all that counts against it; None where no finite one holds."""
    released: float | None
    """Epsilon of the rounds reserved so far; under a plan at most ``charged``."""


@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """One budget of one ledger, over time."""

    ledger: str
    dataset: str
    budget: int
    """Place of its ``open`` entry."""
    unit: str
    declared_size: int
    kind: Literal["plan", "filter"]
    order: int | None
    epsilon: float
    """As opened."""
    delta: float
    accountant: str
    build: str
    """Digest of the guard's build; "" if unknown."""
    closed: bool
    points: tuple[Point, ...]
    """In order, at most 24; the last is where it stands."""

    @property
    def now(self) -> Point:
        """Where it stands."""
        return self.points[-1]

    @property
    def left(self) -> float | None:
        """Epsilon that it may still grant, in words of the limit; None under a filter, where it is Rényi."""
        if self.kind == "filter" or self.now.charged is None:
            return None
        charged_whole = self.now.charged > 0
        return 0.0 if self.closed or charged_whole else self.now.limit


@dataclass(frozen=True, slots=True)
class SiteRun:
    """What a run's result states of one site."""

    name: str
    declared_size: int | None
    epsilon: float | None
    epsilon_budget: float | None
    delta: float | None
    noise_multiplier: float | None
    sample_rate: float | None
    steps: int | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a coordinator's run directory states of its run: claims, not findings."""

    name: str
    run: str
    study: str | None
    digest: str | None
    private: bool | None
    unit: str | None
    statement: str | None
    sampling: str | None
    noise: str | None
    accountant: str | None
    not_covered: tuple[str, ...]
    max_grad_norm: float | None
    rows_per_group: int | None
    """Under unit "group": how many rows of a person count at most."""
    batch_size: int | None
    trainable: str | None
    task: str | None
    rounds: int | None
    seed: int | None
    accuracy: float | None
    test_examples: int | None
    by_domain: tuple[tuple[str, float, int], ...]
    """Domain, accuracy, examples."""
    worst_domain: str | None
    sites: tuple[SiteRun, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything that a report says."""

    date: str
    """UTC, to the minute; the only part that differs when an audit is repeated."""
    auditor: str | None
    audit: LedgerAudit
    budgets: tuple[BudgetFacts, ...]
    runs: tuple[RunFacts, ...]
    empirical: EmpiricalAudit | None
    """What `hanse audit run` wrote."""
    registered_in: str | None
    """The verified ledger that holds the empirical audit's plan; None where none of those given does."""
    inputs: tuple[InputFile, ...]
    versions: Mapping[str, str]
    commands: tuple[str, ...]
    """What repeats the audit."""

    @property
    def violated(self) -> bool:
        """Whether a check of the ledgers or of the training found a violation."""
        return bool(self.audit.failed or self.training_findings)

    @property
    def training_findings(self) -> tuple[tuple[str, str], ...]:
        """Check and finding of the empirical audit: what its file lists, and what its own figures say besides."""
        if self.empirical is None:
            return ()
        told = [*self.empirical.findings, *(each for check in self.empirical.checks for each in check.findings)]
        said: list[tuple[str, str]] = [(each.check, each.what) for each in told]
        if self.empirical.registration.digest != self.empirical.registration_digest:
            said.append(("registration", "the plan in the file is not the one whose digest it names"))
        return tuple(dict.fromkeys(said))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary of all of it; numbers without a finite value are null."""
        parts = {
            "format": FORMAT,
            "date": self.date,
            "auditor": self.auditor,
            "violated": self.violated,
            "ledger_audit": self.audit.to_json(),
            "budgets": [asdict(budget) for budget in self.budgets],
            "runs": [asdict(run) for run in self.runs],
            "empirical": self.empirical and self.empirical.model_dump(mode="json"),
            "training_findings": [{"check": check, "what": what} for check, what in self.training_findings],
            "registered_in": self.registered_in,
            "inputs": [asdict(each) for each in self.inputs],
            "versions": dict(self.versions),
            "commands": list(self.commands),
        }
        plain: dict[str, Any] = _plain(parts)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
