"""Sections on what is guaranteed: summary, plain words, setting, unit, scope, epsilon and delta."""

from __future__ import annotations

from common.audit.ledger_audit import ADJACENCY
from common.audit.recomputed import SCOPES, RecomputedEpsilon
from common.privacy.mechanism import NotPrivate, merge
from deploy.audit_report.blocks import NOT_MEASURED, NOT_STATED, Block, Notice, Plot, Section, Table, Text, number
from deploy.audit_report.facts import AuditReport, BudgetFacts
from deploy.audit_report.plots import budget_plot

__all__ = ["guarantee_sections", "leading"]

_UNITS = {
    "example": "one row; it is a guarantee per person only where nobody has a second row, which the site's "
    "officer states and no ledger can show",
    "group": "one person with all of that person's rows at the site",
    "institution": "a whole site, against everybody but the coordinator",
}
_MODELS = {
    "site": (
        "at each site: noise is added before anything leaves it",
        "sees each site's update, which the site has clipped and noised, and declared facts; trusted to be there",
    ),
    "central": (
        "central: the coordinator adds the noise",
        "sees each site's update without noise and is trusted with it",
    ),
    "none": (
        "none in at least one run, which was trained without privacy",
        "sees each site's update as it is, in a run without privacy",
    ),
    "": (NOT_STATED, NOT_STATED),
}
"""How privacy comes about, and what the coordinator sees."""
_ROWS = {"person": "a person at all sites", "site": "at one site", "dataset": "dataset", "study": "study"}


def guarantee_sections(report: AuditReport) -> tuple[Section, ...]:
    """The first part of a report."""
    return (
        Section("Summary", _summary(report)),
        Section("In plain words", _plain_words(report)),
        Section("Setting: who is trusted with what", _setting(report)),
        Section("Unit and adjacency", _unit(report)),
        Section("Scope and released objects", _scope(report)),
        Section("Epsilon and delta", _epsilon(report)),
    )


def leading(report: AuditReport) -> RecomputedEpsilon | None:
    """The figure that a report leads with: a person at all sites, else at the one site (P2)."""
    order = [scope for scope in SCOPES if scope in ("person", "site")]
    found = [figure for scope in order for figure in report.audit.figures if figure.scope == scope]
    return found[0] if found else None


def _summary(report: AuditReport) -> tuple[Block, ...]:
    verdicts = [check.verdict for check in report.audit.checks]
    passed, failed = verdicts.count("passed"), verdicts.count("failed")
    open_checks = len(verdicts) - passed - failed
    training = len(report.training_findings)
    said = f"{passed} of {len(verdicts)} checks of the ledgers passed, {failed} failed, {open_checks} not possible"
    said += f"; the audit of the training has {training} findings." if report.empirical else "."
    blocks: list[Block] = []
    if report.violated:
        blocks.append(Notice(f"Violation: a claim did not survive. {said}", "bad"))
    elif open_checks:
        blocks.append(Notice(f"No violation was found, and not everything could be checked. {said}", "open"))
    else:
        blocks.append(Notice(f"No violation was found. {said}", "good"))
    first = leading(report)
    if first is None:
        blocks.append(Text("No epsilon could be recomputed: no verified ledger has a budget for persons or rows."))
    else:
        blocks.append(Text(_led(first)))
    main = None if report.empirical is None else report.empirical.main_figure
    rows = (
        (
            "Guarantee",
            "none recomputed" if first is None else f"epsilon {number(first.claimed)} at delta {first.delta:.3g}",
        ),
        *_at_sites(report),
        ("Unit", NOT_STATED if first is None else first.unit),
        (
            "Attack, lower bound",
            NOT_MEASURED if main is None else f"{number(main.epsilon, 'a verdict only')} ({main.method})",
        ),
        ("Ledgers verified", str(len(report.audit.ledgers))),
        ("Date", report.date),
        ("Audited by", report.auditor or NOT_STATED),
    )
    return (*blocks, Table((), rows, (30, 70)), Text(report.audit.unproven))


def _at_sites(report: AuditReport) -> list[tuple[str, str]]:
    """Every site's own guarantee; one alone leads already."""
    sites = [figure for figure in report.audit.figures if figure.scope == "site"]
    told = [
        (f"At {each.name} alone", f"epsilon {number(each.claimed)} at delta {each.delta:.3g}") for each in sites
    ]
    return told if len(told) > 1 else []


def _led(figure: RecomputedEpsilon) -> str:
    whom = "for a person whose data is at every site" if figure.scope == "person" else "at one site"
    said = (
        f"Guarantee {whom}: epsilon {number(figure.claimed)} at delta {figure.delta:.3g}, the sums over all "
        "budgets."
    )
    if "example" in figure.unit:
        said += " The unit is one row: per person this holds only if nobody has a second row anywhere."
    return said


def _plain_words(report: AuditReport) -> tuple[Block, ...]:
    first = leading(report)
    blocks: list[Block] = []
    if first is not None and first.claimed is not None and first.claimed < float("inf"):
        odds = 2.718281828459045**first.claimed
        shown = f"{odds:,.1f}" if odds < 1e9 else "more than a thousand million"
        blocks.append(
            Text(
                "Imagine somebody who knows everything but whether one unit's data took part, and who sees all "
                "that left the sites. Whatever odds that person gave before, seeing it can change them by a "
                f"factor of up to {shown} (e to the epsilon of {number(first.claimed)}), but for a chance of "
                f"about {first.delta:.3g}."
            )
        )
        if first.claimed > 3:
            blocks.append(
                Text(
                    "That is a bound for the worst case. A factor of this size by itself would let a determined "
                    "attacker become nearly certain; attacks that were tried, if any, stand under the audit of "
                    "the training."
                )
            )
    blocks.append(
        Text(
            "Facts about a population are not protected, and are not meant to be: if the data show that a drug "
            "helps, the model may show it too, and may say something about a person who never took part. What is "
            "bounded is what can be learned because of one unit's own data."
        )
    )
    return tuple(blocks)


def _setting(report: AuditReport) -> tuple[Block, ...]:
    model, update = _MODELS[_privacy_model(report)]
    rows = (
        ("Model of privacy", model),
        (
            "Each site",
            "holds its own rows; trusted with them, and with running the mechanism that its ledger records",
        ),
        ("The coordinator", update),
        ("Other sites", "see the global model of each round"),
        ("Everybody else", "sees the released model, and what else is published"),
    )
    return (Table((), rows, (25, 75)),)


def _privacy_model(report: AuditReport) -> str:
    units = {run.unit for run in report.runs} | {budget.unit for budget in report.budgets}
    if any(run.private is False for run in report.runs):
        return "none"
    return "central" if "institution" in units else "site" if units - {None} else ""


def _unit(report: AuditReport) -> tuple[Block, ...]:
    units = sorted({budget.unit for budget in report.budgets} | {run.unit for run in report.runs if run.unit})
    rows = [("Adjacency", f"add or remove one unit. {ADJACENCY}")]
    rows += [(f"Unit: {unit}", _UNITS.get(unit, NOT_STATED)) for unit in units]
    rows += [("Declared size", ", ".join(_sizes(report)) or NOT_STATED)]
    rows += [
        (
            "Held to be public",
            "the declared sizes, label names, the study, base model and tokenizer; whether the base model was "
            f"trained on rows that are also here: {NOT_STATED}",
        ),
        ("Rows of one person that count", _rows_per_person(report)),
    ]
    return (Text(report.audit.guarantee), Table((), tuple(rows), (25, 75)))


def _rows_per_person(report: AuditReport) -> str:
    caps = [f"{run.name}: at most {run.rows_per_group}" for run in report.runs if run.rows_per_group is not None]
    return "; ".join(caps) or f"{NOT_STATED}; under unit example each row counts by itself"


def _sizes(report: AuditReport) -> list[str]:
    return [f"{b.ledger}, {b.dataset}: {b.declared_size} units, delta {b.delta:.3g}" for b in report.budgets]


def _scope(report: AuditReport) -> tuple[Block, ...]:
    not_covered = dict.fromkeys(each for run in report.runs for each in run.not_covered)
    rows = (
        (
            "Released, and covered",
            "each round's update, to the coordinator; every later model is computed from them",
        ),
        ("Training", "every step is in the ledger; what each ledger charges stands under the mechanism"),
        (
            "Audits with canaries",
            "charged like any other step, under a run of their own" if report.empirical else NOT_STATED,
        ),
        ("Tuning", "each run on a dataset is charged to its budget; choices made on public data cost nothing"),
        (
            "Evaluation, early stopping",
            "on the coordinator's public data, or in the ledger as a release of its own",
        ),
        ("Pre-processing", "unit by unit, by rule; rows dropped because of other rows are not covered"),
        ("Not covered, as the runs state", "; ".join(not_covered) or NOT_STATED),
    )
    words = (
        "The ledgers show what was charged. The rest of this table is how Hanse is built, which they cannot show."
    )
    return (Text(words), Table((), rows, (30, 70)))


def _epsilon(report: AuditReport) -> tuple[Block, ...]:
    figures = sorted(report.audit.figures, key=lambda each: SCOPES.index(each.scope))
    blocks: list[Block] = []
    if not figures:
        return (Text("No verified ledger has a budget for persons or rows, so nothing was recomputed."),)
    rows = tuple(
        (
            f"{_ROWS[figure.scope]}: {figure.name}" if figure.scope != "person" else figure.name,
            figure.unit,
            number(figure.claimed, "-"),
            f"{figure.delta:.3g}",
            number(figure.pld),
            number(figure.rdp),
            number(figure.prv, "-"),
        )
        for figure in figures
    )
    head = ("scope", "unit", "claimed", "delta", "PLD", "RDP", "PRV")
    blocks.append(Table(head, rows, (34, 12, 11, 11, 11, 11, 10)))
    blocks.append(
        Text(
            "Claimed: the sum of the budgets' epsilons at the sum of their deltas; it is the guarantee. PLD, RDP "
            "and PRV are recomputed from the mechanisms in the ledgers' entries and are information. The row of "
            "a site is for a person whose data is at that site alone; a person at several sites has the first "
            "row."
        )
    )
    if any(isinstance(part, NotPrivate) for figure in figures for part in merge(figure.mechanism)):
        blocks.append(Notice("A release without noise is on record: no finite epsilon holds for it.", "bad"))
    if report.budgets:
        blocks.append(_budgets(report))
        blocks += [
            Plot(f"{b.ledger}, dataset {b.dataset}, budget {b.budget}", budget_plot(b)) for b in report.budgets
        ]
        blocks.append(_over_time(report))
    return tuple(blocks)


def _budgets(report: AuditReport) -> Table:
    rows = tuple(
        (
            f"{b.ledger}: {b.dataset}, budget {b.budget}",
            b.kind if b.order is None else f"{b.kind}, order {b.order}",
            number(b.epsilon),
            f"{b.delta:.3g}",
            number(b.now.limit),
            number(b.now.charged, "infinite"),
            _left(b),
        )
        for b in report.budgets
    )
    return Table(
        ("budget", "kind", "epsilon", "delta", "limit now", "charged", "left"), rows, (34, 14, 10, 10, 11, 10, 11)
    )


def _left(budget: BudgetFacts) -> str:
    if budget.closed:
        return "0, closed"
    return "see RDP cap" if budget.left is None else number(budget.left)


def _over_time(report: AuditReport) -> Table:
    rows = tuple(
        (
            f"{b.ledger}: {b.dataset}, budget {b.budget}",
            str(point.entry),
            point.time,
            number(point.limit),
            number(point.charged, "infinite"),
            number(point.released, "infinite"),
        )
        for b in report.budgets
        for point in b.points
    )
    head = ("epsilon over time", "entry", "hour (the site's own)", "budget", "charged", "rounds so far")
    return Table(head, rows, (34, 8, 24, 11, 11, 12))
