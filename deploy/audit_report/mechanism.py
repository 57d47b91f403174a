"""Sections on what ran and how it was counted: mechanism, sampling, accountants, attacks on the training."""

from __future__ import annotations

from common.audit.ledger_audit import SAMPLING
from common.audit.recomputed import in_words
from deploy.audit_report.blocks import NOT_MEASURED, NOT_STATED, Block, Notice, Plot, Section, Table, Text, number
from deploy.audit_report.facts import AuditReport, RunFacts
from deploy.audit_report.plots import Bounds, bounds_plot

__all__ = ["mechanism_sections"]


def mechanism_sections(report: AuditReport) -> tuple[Section, ...]:
    """The second part of a report."""
    return (
        Section("Mechanism, as run", _mechanism(report)),
        Section("Sampling: implemented and accounted", _sampling(report)),
        Section("Accountants", _accountants(report)),
        Section("Audit of the training: theory and attack", _training(report)),
    )


def _mechanism(report: AuditReport) -> tuple[Block, ...]:
    charged = [f for f in report.audit.figures if f.scope == "study"]
    rows = tuple((figure.name, in_words(figure.mechanism)) for figure in charged)
    blocks: list[Block] = [Text("As the ledgers record it, each study at each site:")]
    blocks.append(Table(("study", "charged"), rows or ((NOT_STATED, NOT_STATED),), (40, 60)))
    for run in report.runs:
        blocks.append(Text(f"As the coordinator of {run.name} states it:"))
        blocks.append(_of_run(run))
        if run.sites:
            blocks.append(_sites(run))
    if not report.runs:
        blocks.append(
            Text("No coordinator's record was given: clipping norm, batch and noise source are not stated.")
        )
    return tuple(blocks)


def _of_run(run: RunFacts) -> Table:
    private = {None: NOT_STATED, True: "yes", False: "NO: this run was trained without privacy"}[run.private]
    rows = (
        ("Study", run.study or NOT_STATED),
        ("Digest of the study", run.digest or NOT_STATED),
        ("Private", private),
        (
            "Clipping norm C",
            NOT_STATED if run.max_grad_norm is None else f"{run.max_grad_norm:g}, per unit's gradient",
        ),
        ("Expected batch, units", NOT_STATED if run.batch_size is None else str(run.batch_size)),
        ("Trained parameters", run.trainable or NOT_STATED),
        ("Task", run.task or NOT_STATED),
        ("Rounds", NOT_STATED if run.rounds is None else str(run.rounds)),
        ("Source of noise", run.noise or NOT_STATED),
        ("Statement of the run", run.statement or NOT_STATED),
    )
    return Table((), rows, (28, 72))


def _sites(run: RunFacts) -> Table:
    rows = tuple(
        (
            site.name,
            NOT_STATED if site.declared_size is None else str(site.declared_size),
            number(site.epsilon),
            number(site.epsilon_budget),
            NOT_STATED if site.delta is None else f"{site.delta:.3g}",
            number(site.noise_multiplier),
            NOT_STATED if site.sample_rate is None else f"{site.sample_rate:.6g}",
            NOT_STATED if site.steps is None else str(site.steps),
        )
        for site in run.sites
    )
    head = ("site", "declared size", "epsilon", "of", "delta", "sigma / C", "q", "steps")
    return Table(head, rows, (20, 12, 12, 12, 10, 12, 12, 10))


def _sampling(report: AuditReport) -> tuple[Block, ...]:
    stated = dict.fromkeys(run.sampling for run in report.runs if run.sampling)
    measured = NOT_MEASURED
    if report.empirical is not None:
        tests = [t for check in report.empirical.checks if check.check == "noise" for t in check.tests]
        failed = [test.name for test in tests if not test.passed]
        if tests:
            measured = f"{len(tests)} tests of noise and sampler, {len(failed)} failed"
            measured += f": {'; '.join(failed)}" if failed else ""
    rows = (
        ("Implemented, as the runs state", "; ".join(stated) or NOT_STATED),
        ("Implemented, as measured", measured),
        ("Accounted", SAMPLING),
        ("If they differ", "there is no claim: the accountants' figures hold for Poisson sampling alone"),
    )
    return (Table((), rows, (30, 70)),)


def _accountants(report: AuditReport) -> tuple[Block, ...]:
    budgets = dict.fromkeys(budget.accountant for budget in report.budgets)
    second = sum(figure.prv is not None for figure in report.audit.figures)
    rows = (
        ("Judges the budgets", "; ".join(budgets) or NOT_STATED),
        (
            "First",
            "privacy loss distributions, pessimistic rounding, both directions; dp-accounting "
            f"{_version(report, 'dp-accounting')}",
        ),
        ("Second", "Rényi divergence, the best of the orders to 1024; converted by Canonne, Kamath, Steinke 2020"),
        (
            "Third",
            f"PRV of Opacus {_version(report, 'opacus')}: {second} of {len(report.audit.figures)} figures"
            if second
            else "PRV: not asked, or it did not answer",
        ),
        (
            "Composition",
            "a plan was fixed in advance (PLD); a filter adds Rényi divergences at one order, adaptively",
        ),
        (
            "Other parameters",
            "the mechanisms stand above; any of them can be converted at another delta with `hanse privacy "
            "epsilon`",
        ),
    )
    return (Table((), rows, (25, 75)),)


def _version(report: AuditReport, name: str) -> str:
    return report.versions.get(name, NOT_STATED)


def _training(report: AuditReport) -> tuple[Block, ...]:
    audit = report.empirical
    if audit is None:
        rows = [
            Bounds(f"{f.scope} {f.name}", f.claimed, None) for f in report.audit.figures if f.claimed is not None
        ]
        told: tuple[Block, ...] = (
            Text(
                "No empirical audit was given: noise, sampler and attacks are not measured. `hanse audit run` "
                "makes one."
            ),
        )
        return (*told, Plot("Epsilon: theory, and no attack", bounds_plot(rows))) if rows else told
    claim = audit.registration.claim
    bounds = [(check.check, bound) for check in audit.checks for bound in check.bounds]
    drawn = [Bounds(f"{check}: {bound.method}", claim.epsilon, bound.epsilon) for check, bound in bounds]
    blocks: list[Block] = [_verdict(report), Text(audit.unproven), _registered(report)]
    if drawn:
        blocks.append(Plot("Epsilon: theory (upper) and attack (lower)", bounds_plot(drawn)))
        rows_of_bounds = tuple(
            (
                check,
                b.method,
                number(claim.epsilon),
                number(b.epsilon, "a verdict only"),
                "ABOVE THE CLAIM" if b.exceeds else "below",
                b.detail,
                b.ceiling,
            )
            for check, b in bounds
        )
        head = ("check", "method", "claim", "attack, at least", "verdict", "detail", "what it could see")
        blocks.append(Table(head, rows_of_bounds, (11, 15, 9, 11, 11, 22, 21)))
    blocks += _tests(report)
    blocks.append(Text("A lower bound above the claim refutes it. A low bound proves no privacy."))
    return tuple(blocks)


def _verdict(report: AuditReport) -> Notice:
    found = report.training_findings
    if found:
        return Notice(f"The audit of the training has {len(found)} findings.", "bad")
    return Notice("The audit of the training found nothing against the claim.", "good")


def _where_registered(report: AuditReport) -> str:
    if report.registered_in is None:
        return "not checked; no verified ledger of this report holds it (give the audit's ledger too)"
    return f"found in {report.registered_in}, before the audit's steps"


def _registered(report: AuditReport) -> Table:
    assert report.empirical is not None  # its callers have one
    audit, plan = report.empirical, report.empirical.registration
    rows = (
        ("Fixed beforehand, digest", audit.registration_digest),
        ("In the ledger's entry", f"{audit.ledger_entry}: {_where_registered(report)}"),
        ("Site; study", f"{plan.site}; {plan.study}"),
        (
            "Claim under test",
            f"epsilon {number(plan.claim.epsilon)} at delta {plan.claim.delta:.3g}; sample rate "
            f"{plan.claim.sample_rate:.6g}, noise multiplier {plan.claim.noise_multiplier:.6g}, "
            f"{plan.claim.steps} steps",
        ),
        ("Canaries", f"{plan.canaries} gradients, {plan.text_canaries} texts; {plan.canary}"),
        ("Membership", f"{plan.member_records} texts, {plan.shadows} reference models"),
        ("Guesses", f"{plan.guessing.one_run} in one run, {plan.guessing.curve} against the curve"),
        ("Scores", plan.score),
        ("Threshold rule", plan.threshold),
        ("Confidence; false alarms", f"{plan.confidence:g}; {plan.false_alarm_rate:g}"),
        ("Command", audit.command),
        ("Build", audit.build),
    )
    return Table((), rows, (25, 75))


def _tests(report: AuditReport) -> list[Block]:
    assert report.empirical is not None  # its callers have one
    checks = report.empirical.checks
    tests = tuple(
        (
            check.check,
            t.name,
            number(t.measured, "not finite", 6),
            f"{t.expected:.6g}",
            f"{t.p_value:.3g}",
            f"{t.false_alarm_rate:.3g}",
            "passed" if t.passed else "FAILED",
        )
        for check in checks
        for t in check.tests
    )
    facts = tuple(
        (check.check, f.name, number(f.value, NOT_MEASURED), _interval(f.lower, f.upper), f.detail)
        for check in checks
        for f in check.facts
    )
    blocks: list[Block] = []
    if tests:
        head = ("check", "test", "measured", "expected", "p", "false alarms", "verdict")
        blocks.append(Table(head, tests, (12, 30, 14, 12, 10, 12, 10)))
    if facts:
        blocks.append(Table(("check", "figure", "value", "interval", "detail"), facts, (12, 28, 12, 18, 30)))
    return blocks


def _interval(lower: float | None, upper: float | None) -> str:
    return "-" if lower is None and upper is None else f"{number(lower, 'open')} to {number(upper, 'open')}"
