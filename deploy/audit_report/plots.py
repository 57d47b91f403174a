"""The two plots of a report: a budget's epsilon over time, and theory (upper) beside attacks (lower)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.audit_report.drawing import Anchor, Box, Drawing, Line, Shape, Style, Words
from deploy.audit_report.facts import BudgetFacts

__all__ = ["Bounds", "bounds_plot", "budget_plot"]

_WIDTH = 480.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 22.0, 34.0
_HEIGHT = 170.0
_ROW = 34.0
_NAME = 60
"""Characters of a name that are drawn; the table beside a plot has all of it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """One row of the plot of bounds: what theory allows at most, what an attack shows at least."""

    name: str
    upper: float | None
    lower: float | None


def budget_plot(budget: BudgetFacts) -> Drawing:
    """Epsilon against the ledger's entries: budget, charged, and released by the rounds so far."""
    points = budget.points
    known = [value for p in points for value in (p.limit, p.charged, p.released) if value is not None]
    top = _nice(max(known))
    first, last = points[0].entry, max(points[-1].entry, points[0].entry + 1)

    def x(entry: int) -> float:
        return _LEFT + (entry - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    def steps(values: Sequence[float | None]) -> tuple[tuple[float, float], ...]:
        """A stair: a value holds until the next entry."""
        found: list[tuple[float, float]] = []
        for point, value in zip(points, values, strict=True):
            if value is None:
                break
            if found:
                found.append((x(point.entry), found[-1][1]))
            found.append((x(point.entry), y(value)))
        if len(found) == 1:
            found.append((x(last), found[0][1]))
        return tuple(found)

    shapes: list[Shape] = _grid(top, y)
    shapes.append(Line(steps([p.limit for p in points]), "limit"))
    shapes.append(Line(steps([p.charged for p in points]), "upper"))
    shapes.append(Line(steps([p.released for p in points]), "middle"))
    for entry in sorted({first, last}):
        at: Anchor = "start" if entry == first else "end"
        shapes.append(Words(x(entry), _HEIGHT - _BOTTOM + 12, f"entry {entry}", at, muted=True))
    shapes += _legend([("limit", "budget"), ("upper", "charged"), ("middle", "rounds so far")])
    told = (
        f"Epsilon of budget {budget.budget} of {budget.ledger} over its entries; the table below has the figures."
    )
    return Drawing(_WIDTH, _HEIGHT, tuple(shapes), told)


def bounds_plot(rows: Sequence[Bounds]) -> Drawing:
    """Upper and lower bounds of epsilon, a row for each claim or attack."""
    known = [v for row in rows for v in (row.upper, row.lower) if v is not None and math.isfinite(v)]
    top = _nice(max(known, default=1.0))
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return _LEFT + value / top * (_WIDTH - _LEFT - _RIGHT)

    shapes: list[Shape] = []
    for step in range(5):
        value = top * step / 4
        shapes.append(Line(((x(value), _TOP), (x(value), height - _BOTTOM)), "grid"))
        shapes.append(Words(x(value), height - _BOTTOM + 12, f"{value:g}", "middle", muted=True))
    for place, row in enumerate(rows):
        shapes += _bounds_row(row, _TOP + place * _ROW, x)
    shapes += _legend([("upper", "theory: at most"), ("lower", "attack: at least")], height)
    shapes.append(Words(_LEFT, 12, "epsilon", muted=True))
    told = "Upper bounds of epsilon by theory and lower bounds by attack; the table below has the figures."
    return Drawing(_WIDTH, height, tuple(shapes), told)


def _bounds_row(row: Bounds, y: float, x: Callable[[float], float]) -> list[Shape]:
    said = row.name if len(row.name) <= _NAME else row.name[: _NAME - 3] + "..."
    if row.lower is None:
        said += " (attack: not measured)"
    shapes: list[Shape] = [Words(_LEFT + 2, y + 11, said)]
    if row.upper is not None:
        shapes.append(Box(_LEFT, y + 15, x(row.upper) - _LEFT, 6, "upper"))
    if row.lower is not None:
        shapes.append(Box(_LEFT, y + 22, max(1.5, x(row.lower) - _LEFT), 6, "lower"))
    return shapes


def _grid(top: float, y: Callable[[float], float]) -> list[Shape]:
    shapes: list[Shape] = [Words(4, 12, "epsilon", muted=True)]
    for step in range(5):
        value = top * step / 4
        shapes.append(Line(((_LEFT, y(value)), (_WIDTH - _RIGHT, y(value))), "axis" if step == 0 else "grid"))
        shapes.append(Words(_LEFT - 4, y(value) + 3, f"{value:g}", "end", muted=True))
    return shapes


def _legend(entries: Sequence[tuple[Style, str]], height: float = _HEIGHT) -> list[Shape]:
    shapes: list[Shape] = []
    for place, (style, words) in enumerate(entries):
        left = _LEFT + place * 140
        shapes.append(Line(((left, height - 8), (left + 18, height - 8)), style))
        shapes.append(Words(left + 22, height - 5, words, muted=True))
    return shapes


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 8 times a power of ten that is not below ``value``."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value * (1 - 1e-12))
