"""Bars and tables of budgets for a terminal, with or without colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.privacy.spending import Spending, gauge
from deploy.budget_forecast import BudgetReading, DatasetReading, StudyForecast

__all__ = ["LEGEND", "bar", "print_dataset"]

SPENT, RESERVED, STUDY, LEFT, UNUSED, CAP = "#", "=", "+", ".", "-", "|"
LEGEND = (
    f"{SPENT} spent  {RESERVED} reserved  {STUDY} this study  {LEFT} left  "
    f"{UNUSED} never granted any more  {CAP} the cap, where it is passed"
)
"""What the characters of a bar mean; they say all that colour says."""

_WIDTH = 60
_STYLES = {SPENT: "bold red", RESERVED: "yellow", STUDY: "cyan", LEFT: "green", UNUSED: "dim", CAP: "bold"}
_LARGEST = 1e300
_ROUNDING = 1e-9


def bar(found: Spending, asked: float = 0.0, width: int = _WIDTH) -> str:
    """A budget as ``width`` characters in proportion, the figures in order; one above 0 has one at least.

    Where the figures together pass the cap, the bar stands for their sum, and ``|`` is put in at the cap.

    Args:
        found: the budget.
        asked: what a study would take, in the budget's measure.
        width: at least 5.
    """
    spent, reserved, asked = (min(value, _LARGEST) for value in (found.spent, found.reserved, asked))
    unused = found.cap - spent - reserved - found.left  # of a plan that holds its study
    unused = unused if unused > _ROUNDING * found.cap else 0.0
    total = spent + reserved + unused + asked
    left = max(0.0, found.cap - total)
    drawn = _in_proportion({SPENT: spent, RESERVED: reserved, UNUSED: unused, STUDY: asked, LEFT: left}, width)
    if total <= found.cap * (1 + _ROUNDING):
        return drawn
    place = round(width * found.cap / total)
    return drawn[:place] + CAP + drawn[place:]


def _in_proportion(values: Mapping[str, float], width: int) -> str:
    """Each sign as often as its value's share of ``width``, and once at least if the value is above 0."""
    scale = math.fsum(values.values())
    ahead = sum(value > 0 for value in values.values())
    drawn, summed = "", 0.0
    for sign, value in values.items():
        if value > 0:
            summed, ahead = summed + value, ahead - 1
            wanted = round(width * min(1.0, summed / scale))
            drawn += sign * (min(max(wanted, len(drawn) + 1), width - ahead) - len(drawn))
    return drawn.ljust(width, drawn[-1] if drawn else LEFT)


def print_dataset(console: Console, reading: DatasetReading) -> None:
    """Print a dataset's budgets, a bar for each, its claim, and what a study would take."""
    unit, size = reading.budgets[0].terms.unit, reading.budgets[0].terms.declared_size
    _say(console, f'Dataset "{reading.dataset}": unit {unit}, declared size {size}')
    console.print(_figures_table(reading.budgets))
    for each in reading.budgets:
        _print_budget(console, each)
    said = reading.claim
    count = len(reading.budgets)
    summed = "its one budget" if count == 1 else f"the sum of its {count} budgets"
    _say(
        console,
        f"Claim: epsilon {said.epsilon:.6g} at delta {said.delta:.6g} per {unit} added or removed ({summed})",
    )


def _figures_table(readings: Sequence[BudgetReading]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("budget", "kind", "counted in"):
        table.add_column(column)
    for column in ("spent", "reserved", "left", "cap", "epsilon", "delta"):
        table.add_column(column, justify="right")
    for reading in readings:
        found = reading.spending
        figures = (found.spent, found.reserved, found.left, found.cap, found.epsilon, found.delta)
        kind = f"{found.kind}, closed" if found.closed else found.kind
        table.add_row(str(found.budget), kind, found.measure, *(f"{figure:.5g}" for figure in figures))
    return table


def _print_budget(console: Console, reading: BudgetReading) -> None:
    found, forecast = reading.spending, reading.forecast
    asked = 0.0 if forecast is None or forecast.asked is None else forecast.asked
    text = Text(f"budget {found.budget} ")
    if found.closed:
        text.append("closed: grants nothing more")
    else:
        for sign in f"[{bar(found, asked)}]":
            text.append(sign, style=_STYLES.get(sign, ""))
    console.print(text, highlight=False)
    _say(console, f"  gauge: {_gauge_in_words(reading)}")
    _say(console, f"  information only: {_information(reading)}")
    if forecast is not None:
        for line in _forecast_in_words(reading, forecast):
            _say(console, f"  {line}")


def _gauge_in_words(reading: BudgetReading) -> str:
    found = reading.spending
    figure = f"epsilon {found.gauge:.5g} at delta {found.delta:g} for all that was charged"
    if found.kind == "plan":
        return f"{figure}, as fixed in advance"
    return f"{figure} (a reading, not a claim)"


def _information(reading: BudgetReading) -> str:
    prv = "" if reading.prv is None else f", PRV {reading.prv:.5g}"
    return f"had all of it been fixed in advance: PLD {reading.pld:.5g}{prv}"


def _forecast_in_words(reading: BudgetReading, forecast: StudyForecast) -> list[str]:
    lines = [
        f'study "{forecast.study}": asks for epsilon {forecast.epsilon:g} at delta {forecast.delta:g}; '
        f"{forecast.steps} steps, sample rate {forecast.sample_rate:.6g}"
    ]
    if forecast.noise_multiplier is not None and forecast.asked is not None:
        cost = f"{forecast.asked:.5g} ({reading.spending.measure}"
        if reading.terms.order is not None:
            cost += f", which reads as epsilon {gauge(reading.terms, forecast.asked):.5g}"
        lines.append(f"noise multiplier {forecast.noise_multiplier:.5g}, costs {cost})")
    elif forecast.fits:
        lines.append("charged to nothing here: the coordinator, who is trusted, adds the noise (P19)")
    lines.append("fits" if forecast.fits else "does not fit:")
    lines += [f"  {fault}" for fault in forecast.faults]
    return lines


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)
