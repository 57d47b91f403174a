"""Sections on the evidence: checks, findings, failure side, utility, verifiability, NIST's questions, limits."""

from __future__ import annotations

from common.audit.findings import Severity
from deploy.audit_report.blocks import (
    NOT_MEASURED,
    NOT_STATED,
    Block,
    Commands,
    Notice,
    Section,
    Table,
    Text,
    number,
)
from deploy.audit_report.facts import AuditReport

__all__ = ["evidence_sections"]


def evidence_sections(report: AuditReport) -> tuple[Section, ...]:
    """The third part of a report."""
    return (
        Section("Findings, the heaviest first", _findings(report)),
        Section("Checks of the ledgers", _checks(report)),
        Section("The failure side", _failures(report)),
        Section("Utility and bias", _utility(report)),
        Section("Verifiability", _verifiability(report)),
        Section("Questions of NIST SP 800-226", _nist(report)),
        Section("What stays unproven", (Notice(report.audit.unproven, "open"), Text(_LIMITS))),
    )


_LIMITS = (
    "The ledgers prove that their recorded history is unaltered, complete up to the heads that coordinators "
    "witnessed, and within policy. They say nothing about what the software at a site really did: that rests on "
    "the guard's build, which the site's officer vouches for, and on audits that the site ran. They are silent "
    "on whether a policy asked for an approval, on times, which are the site's own statement, and on entries "
    "behind the last witnessed head."
)


def _findings(report: AuditReport) -> tuple[Block, ...]:
    rows = [(str(Severity.VIOLATION), "training", check, "-", what) for check, what in report.training_findings]
    for severity in Severity:
        rows += [
            (str(severity), f"{check.number} {check.name}", each.where, str(each.entry or "-"), each.what)
            for check in report.audit.checks
            for each in check.findings
            if each.severity is severity
        ]
    if not rows:
        return (Text("None."),)
    return (
        Text("Violation: a claim did not survive. Gap: something needed was not given. Warning: legal, but ask."),
        Table(("severity", "check", "where", "entry", "what"), tuple(rows), (12, 18, 24, 7, 39)),
    )


def _checks(report: AuditReport) -> tuple[Block, ...]:
    rows = tuple(
        (str(check.number), check.name, check.verdict.replace("-", " "), str(len(check.findings)))
        for check in report.audit.checks
    )
    return (Table(("#", "check", "verdict", "findings"), rows, (6, 50, 24, 20)),)


def _failures(report: AuditReport) -> tuple[Block, ...]:
    noise = dict.fromkeys(run.noise for run in report.runs if run.noise)
    rows = (
        ("Floating point", "; ".join(noise) or NOT_STATED),
        (
            "Timing",
            "not covered: how long a site takes to answer may depend on its batches, unless its policy fixes "
            "the time",
        ),
        (
            "Seeds",
            "noise and sampling of a private run have none; a study's seed governs splits and initialisation",
        ),
        ("Other side channels", NOT_MEASURED),
        ("Access control", f"each site's own, with its guard; {NOT_STATED} here"),
        ("Data kept before and after", NOT_STATED),
        ("How the data were collected", NOT_STATED),
    )
    return (Table((), rows, (28, 72)),)


def _utility(report: AuditReport) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for run in report.runs:
        rows = [
            (
                "all",
                number(run.accuracy, NOT_MEASURED),
                _interval(run.accuracy, run.test_examples),
                str(run.test_examples or NOT_STATED),
            )
        ]
        rows += [
            (
                f"{name} (worst)" if name == run.worst_domain else name,
                number(accuracy),
                _interval(accuracy, examples),
                str(examples),
            )
            for name, accuracy, examples in run.by_domain
        ]
        blocks.append(Text(f"{run.name}, on the coordinator's public test data:"))
        blocks.append(
            Table(("examples of", "accuracy", "95 % interval", "examples"), tuple(rows), (40, 20, 24, 16))
        )
    if not blocks:
        blocks.append(Text(f"Accuracy: {NOT_MEASURED}; no run was given."))
    blocks.append(
        Text(
            f"A twin without privacy, on public data: {NOT_MEASURED}. Bias beyond the rows above: {NOT_MEASURED}."
        )
    )
    return tuple(blocks)


def _interval(accuracy: float | None, examples: int | None) -> str:
    if accuracy is None or not examples or not 0 <= accuracy <= 1:
        return NOT_MEASURED
    from common.audit.intervals import interval

    found = interval(round(accuracy * examples), examples)
    return f"{found.lower:.4f} to {found.upper:.4f}"


def _verifiability(report: AuditReport) -> tuple[Block, ...]:
    ledgers = tuple(
        (
            each.site or each.name,
            str(each.entries),
            each.head,
            each.public_key,
            ", ".join(each.builds) or NOT_STATED,
        )
        for each in report.audit.ledgers
    )
    runs = tuple((f"{run.name}", run.run, run.digest or NOT_STATED) for run in report.runs)
    files = tuple((each.name, each.sha256) for each in report.inputs)
    versions = tuple(sorted(report.versions.items()))
    blocks: list[Block] = [Text("These commands repeat the audit, from the folder that holds the files below:")]
    blocks.append(Commands(report.commands))
    blocks.append(Table(("ledger of", "entries", "head", "public key", "builds"), ledgers, (14, 9, 27, 27, 23)))
    if runs:
        blocks.append(Table(("run", "name in the ledgers", "digest of the study"), runs, (24, 34, 42)))
    blocks.append(Table(("file", "SHA-256"), files, (40, 60)))
    blocks.append(Table(("software", "version"), versions, (40, 60)))
    return tuple(blocks)


def _nist(report: AuditReport) -> tuple[Block, ...]:
    ran = "an audit of the training was given" if report.empirical else f"attacks and sampler: {NOT_MEASURED}"
    rows = (
        (
            "What does epsilon promise, for which unit, and is delta small against the number of units?",
            "sections Epsilon and delta, Unit and adjacency",
        ),
        (
            "Is the guarantee per person, and what of a person with several records or at several sites?",
            "Summary; Unit and adjacency; first row of Epsilon and delta",
        ),
        ("Who must be trusted with raw data, and where is noise added?", "Setting"),
        (
            "Is every access to the data counted: queries, tuning, evaluation, repeated runs?",
            "Scope and released objects; budgets over time",
        ),
        ("Which mechanism, with which sensitivity, as it ran?", "Mechanism, as run"),
        (
            "Is the mechanism implemented as analysed: sampling, clipping, composition?",
            f"Sampling; Accountants; {ran}",
        ),
        ("How accurate and how fair is the result?", "Utility and bias"),
        ("What of floating point, randomness, timing and other side channels?", "The failure side"),
        ("Who has access to the data and to what is kept?", f"The failure side; {NOT_STATED} beyond it"),
        ("How were the data collected, and are they needed?", NOT_STATED),
        ("Can somebody else verify all this?", "Verifiability"),
    )
    words = (
        "In our words, from the promise at the top of its pyramid to the ground that carries it, and where each "
        "is answered."
    )
    return (Text(words), Table(("question", "answer"), rows, (55, 45)))
