"""An empirical audit's file, as `hanse audit run` writes it, and texts of a page and a PDF."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from deploy.audit.registration import Claim, Guessing, Registration
from deploy.audit.result import AuditFinding, Bound, CheckResult, EmpiricalAudit, Fact, TestResult

__all__ = ["Page", "attacked", "parsed", "words_of_pdf"]

PLAN = Registration(
    study="a" * 64,
    site="north",
    claim=Claim(epsilon=8.0, delta=1e-5, sample_rate=0.02, noise_multiplier=1.0, steps=100),
    checks=("noise", "white-box", "membership"),
    seed=7,
    canaries=1000,
    text_canaries=50,
    member_records=400,
    shadows=4,
    guessing=Guessing(one_run=100, curve=200),
    confidence=0.95,
    false_alarm_rate=0.001,
)


def attacked(
    lower: float = 6.5432, noise_passed: bool = True, hide: bool = False, method: str = "component"
) -> EmpiricalAudit:
    """An audit whose component bound is ``lower``; ``hide``: its list of findings is empty whatever it found."""
    bound = Bound(
        method=method,
        epsilon=lower,
        exceeds=lower > 8.0,
        detail="1,000 canaries",
        ceiling="sees 10 % less noise",
    )
    noise = TestResult(
        name="scale of head.weight",
        measured=1.0123,
        expected=1.0,
        p_value=0.4,
        false_alarm_rate=0.001,
        passed=noise_passed,
    )
    membership = Fact(
        name="TPR at FPR 1 %", value=0.0213, lower=0.0101, upper=0.0345, detail="claim allows 0.0760"
    )
    checks = (
        CheckResult(check="noise", seconds=1.0, tests=(noise,)),
        CheckResult(check="white-box", seconds=2.0, bounds=(bound,)),
        CheckResult(check="membership", seconds=3.0, facts=(membership,)),
    )
    findings: tuple[AuditFinding, ...] = tuple(each for check in checks for each in check.findings)
    return EmpiricalAudit(
        registration=PLAN,
        registration_digest=PLAN.digest,
        ledger_entry=9,
        checks=checks,
        findings=() if hide else findings,
        main_figure=bound,
        command="hanse audit run study.toml",
        build="b" * 64,
        versions={"python": "3"},
    )


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self) -> None:
        """Nothing read yet."""
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        """All text, blanks joined."""
        return " ".join(" ".join(self.pieces).split())


def parsed(file: Path) -> Page:
    """A page, read."""
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def words_of_pdf(file: Path) -> str:
    """All text of a PDF, blanks joined."""
    import pypdf

    reader = pypdf.PdfReader(file)
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())
