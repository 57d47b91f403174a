"""Epsilon over time: each budget of a verified ledger after each entry that charges it, recomputed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.audit.ledger_files import OpenedLedger
from common.privacy.ledger.details import Closed, Opened, Policy, Released, Reserved, Settled
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.mechanism import Mechanism
from common.privacy.spending import gauge, price
from common.privacy.terms import BudgetTerms
from deploy.audit_report.facts import BudgetFacts, Point

__all__ = ["MOST_POINTS", "budgets_over_time"]

MOST_POINTS = 24
"""Of one budget; each costs an accountant's answer. The first and the last are always among them."""


@dataclass
class _Course:
    """A budget as the entries pass by."""

    opened: LedgerEntry
    details: Opened
    steps: list[tuple[LedgerEntry, float, Mechanism, Mechanism]] = field(default_factory=list)


def budgets_over_time(ledger: OpenedLedger) -> tuple[BudgetFacts, ...]:
    """Every budget of a ledger, in order of opening; a filter's figures are its readings, not its claim (P6).

    Under unit "institution" a site's ledger has no guarantee of its own, so its budgets are left out.
    """
    history, courses = History(), dict[int, _Course]()
    for entry in ledger.ledger.entries:
        advance(history, entry)
        if isinstance(entry.details, Opened):
            courses[entry.sequence] = _Course(entry, entry.details)
        for place in _touched(entry, history):
            budget = history.budgets[place]
            courses[place].steps.append((entry, budget.limit, budget.charged(), budget.rounds()))
    return tuple(
        _facts(ledger.name, course, history.budgets[place].closed)
        for place, course in courses.items()
        if course.details.terms.unit != "institution"
    )


def _touched(entry: LedgerEntry, history: History) -> list[int]:
    """The budgets whose figures an entry may change."""
    match entry.details:
        case Opened():
            return [entry.sequence]
        case Reserved(budget=budget) | Released(budget=budget):
            return [budget]
        case Policy(lower=lower) if lower is not None:
            return [lower.budget]
        case Settled() | Closed():
            return [budget.sequence for budget in history.of(entry.dataset)]
        case _:
            return []


def _facts(name: str, course: _Course, closed: bool) -> BudgetFacts:
    terms = course.details.terms
    points = [
        Point(entry.sequence, entry.time, limit, _epsilon(terms, charged), _epsilon(terms, released))
        for entry, limit, charged, released in _thinned(course.steps)
    ]
    return BudgetFacts(
        ledger=name,
        dataset=course.opened.dataset,
        budget=course.opened.sequence,
        unit=terms.unit,
        declared_size=terms.declared_size,
        kind=terms.kind,
        order=terms.order,
        epsilon=terms.epsilon,
        delta=terms.delta,
        accountant=course.details.accountant,
        build=course.details.build,
        closed=closed,
        points=tuple(_changes(points)),
    )


def _changes(points: Sequence[Point]) -> list[Point]:
    """The points at which a figure changed, and the last."""
    found: list[Point] = []
    for point in points:
        same = bool(found) and _figures(point) == _figures(found[-1])
        if not same or point is points[-1]:
            found.append(point)
    return found


def _figures(point: Point) -> tuple[float, float | None, float | None]:
    return point.limit, point.charged, point.released


def _thinned(
    steps: Sequence[tuple[LedgerEntry, float, Mechanism, Mechanism]],
) -> list[tuple[LedgerEntry, float, Mechanism, Mechanism]]:
    """At most ``MOST_POINTS`` of them, evenly spread, ends included."""
    if len(steps) <= MOST_POINTS:
        return list(steps)
    places = {round(step * (len(steps) - 1) / (MOST_POINTS - 1)) for step in range(MOST_POINTS)}
    return [steps[place] for place in sorted(places)]


def _epsilon(terms: BudgetTerms, mechanism: Mechanism) -> float | None:
    found = gauge(terms, price(terms, mechanism))
    return found if math.isfinite(found) else None
