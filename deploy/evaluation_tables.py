"""Tables of a report for people: figures with their intervals, and slices."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from common.evaluation.bootstrap import LEVEL
from common.evaluation.report import Report
from common.evaluation.slices import Slices

__all__ = ["figures_table", "slices_table"]


def figures_table(report: Report) -> Table:
    """Each figure of the whole set, with its bootstrap interval where it has one."""
    table = Table(title="Figures", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column(f"{LEVEL:.0%} interval", justify="right")
    overall = report.evaluation.overall.to_json()
    figures = report.figures.to_json() | {key: overall[key] for key in overall}
    if report.evaluation.entities is not None:
        figures["entity_f1"] = report.evaluation.entities.overall.f1
    for name, title in _TITLES.items():
        value, interval = figures.get(name), report.intervals.get(name)
        if isinstance(value, float):
            span = f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""
            table.add_row(title, f"{value:.4f}", span)
    return table


def slices_table(name: str, slices: Slices) -> Table:
    """The parts by one column, the worst marked."""
    table = Table(title=f"By {escape(name)} (gap {slices.gap:.4f})", title_justify="left")
    table.add_column(escape(name))
    keys = list(next(iter(slices.parts.values())))
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for part, figures in slices.parts.items():
        worst = " (worst)" if part == slices.worst and len(slices.parts) > 1 else ""
        cells = (f"{figures[key]:.4f}" if isinstance(figures[key], float) else str(figures[key]) for key in keys)
        table.add_row(f"{escape(part)}{worst}", *cells)
    return table


_TITLES = {
    "entity_f1": "entity F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "matthews_correlation": "MCC",
    "auroc": "AUROC, mean over labels",
    "average_precision": "AUPRC, mean over labels",
    "loss": "log loss",
    "brier": "Brier score",
    "expected_calibration_error": "ECE",
}
