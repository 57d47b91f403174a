"""What an empirical audit found, as one record: figures, verdicts, and what would repeat it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict

from common.audit.hypothesis_tests import StatisticalTest
from deploy.audit.registration import CheckName, Registration

__all__ = ["AuditFinding", "Bound", "CheckResult", "EmpiricalAudit", "Fact", "TestResult", "versions"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TestResult(_Record):
    """A statistical test of the implementation; see ``common.audit.hypothesis_tests``."""

    __test__ = False  # pytest

    name: str
    measured: float | None
    """None where it is not a finite number."""
    expected: float
    p_value: float
    false_alarm_rate: float
    passed: bool

    @classmethod
    def of(cls, test: StatisticalTest) -> TestResult:
        """The same test, as a record."""
        measured = test.measured if abs(test.measured) < float("inf") else None
        return cls(
            name=test.name,
            measured=measured,
            expected=test.expected,
            p_value=test.p_value,
            false_alarm_rate=test.false_alarm_rate,
            passed=test.passed,
        )


class Bound(_Record):
    """A lower bound from an attack. Above the claim it is a finding; a low one proves nothing."""

    method: str
    epsilon: float | None
    """None for a verdict without a figure."""
    exceeds: bool
    """Whether it contradicts the claim."""
    detail: str
    ceiling: str
    """What the method could see at most, in words."""


class Fact(_Record):
    """A figure that carries no verdict by itself."""

    name: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    """Interval at the registered confidence, where there is one."""
    detail: str = ""


class AuditFinding(_Record):
    """Something that a correct pipeline does not do, or hardly ever."""

    check: CheckName
    what: str


class CheckResult(_Record):
    """One check: its tests, bounds and figures."""

    check: CheckName
    seconds: float
    tests: tuple[TestResult, ...] = ()
    bounds: tuple[Bound, ...] = ()
    facts: tuple[Fact, ...] = ()

    @property
    def findings(self) -> tuple[AuditFinding, ...]:
        """Tests that failed, and bounds that contradict the claim."""
        failed = [
            f"{test.name}: {_number(test.measured)}, expected {test.expected:.6g} (p = {test.p_value:.2g}, "
            f"alarm below {test.false_alarm_rate:.2g})"
            for test in self.tests
            if not test.passed
        ]
        above = [
            f"{bound.method}: contradicts the claim; {bound.detail}" for bound in self.bounds if bound.exceeds
        ]
        return tuple(AuditFinding(check=self.check, what=what) for what in (*failed, *above))


class EmpiricalAudit(_Record):
    """The whole audit."""

    format: Literal["hanse-empirical-audit/1"] = "hanse-empirical-audit/1"
    registration: Registration
    registration_digest: str
    ledger_entry: int
    """Place of the reservation that holds the digest, in the audited site's ledger."""
    checks: tuple[CheckResult, ...]
    findings: tuple[AuditFinding, ...]
    main_figure: Bound | None
    """The component audit's bound, if the white box ran."""
    command: str
    """Repeats the audit; noise and sampling are drawn anew, so figures differ within their intervals."""
    build: str
    """Digest of the code that a site runs."""
    versions: dict[str, str]
    unproven: str = (
        "The audit trained its own copy on this machine. It does not prove that other runs used the same code; "
        "a low bound proves no privacy, and an attack that fails may be a weak attack."
    )


def versions() -> dict[str, str]:
    """Versions that the figures depend on."""
    names = ("hanse", "torch", "opacus", "dp-accounting", "transformers", "numpy", "scipy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"
