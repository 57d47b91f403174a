"""The final figures of a run, as a table for people or JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from common.errors import RunFailed
from common.privacy.spending import Claim
from deploy.console import wide_console

__all__ = ["classes_table", "evaluation_table", "print_result", "read_result"]


_FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "matthews_correlation": "MCC",
    "perplexity": "perplexity",
    "loss": "loss",
    "expected_calibration_error": "ECE",
}
"""Key of a score to its column's title; a score of hidden tokens has fewer."""


def read_result(directory: Path) -> dict[str, Any]:
    """The content of a finished run's ``result.json``; raises :class:`RunFailed` if there is none."""
    file = directory / "result.json"
    if not file.is_file():
        raise RunFailed(f"{directory}: the run ended without a result; see events.jsonl there")
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result


def print_result(result: dict[str, Any], directory: str, as_json: bool, claims: Mapping[str, Claim]) -> None:
    """Print a run's result; ``claims`` are the sites' claims over every run in their ledgers."""
    if as_json:
        told = {site: {"epsilon": each.epsilon, "delta": each.delta} for site, each in claims.items()}
        print(json.dumps({**result, "directory": directory, "claims": told}, indent=2, sort_keys=True))
        return
    console = wide_console()
    console.print()
    console.print(_sites_table(result, claims))
    console.print(evaluation_table(result["test"], f"Test set, round {result['best_round']}"))
    console.print(result["privacy"]["statement"])
    if claims:
        console.print("Each site's signed ledger lies in sites/ of the run directory; see: hanse ledger verify")
    console.print(f"Run directory: {directory}", markup=False)


def evaluation_table(evaluation: dict[str, Any], title: str) -> Table:
    """A table of an evaluation: all examples, then each domain."""
    table = Table(title=title, title_justify="left")
    table.add_column("examples of")
    figures = {key: title for key, title in _FIGURES.items() if key in evaluation["overall"]}
    entities = {"all": evaluation.get("entities"), **evaluation.get("entities_by_domain", {})}
    for column in ("words" if entities["all"] else "examples", *figures.values()):
        table.add_column(column, justify="right")
    if entities["all"]:
        table.add_column("entities", justify="right")
        table.add_column("entity F1", justify="right")
    rows = {"all": evaluation["overall"], **evaluation["by_domain"]}
    for name, score in rows.items():
        worst = " (worst)" if name == evaluation["worst_domain"] and len(rows) > 2 else ""
        cells = [str(score["examples"]), *(f"{score[key]:.4f}" for key in figures)]
        if entities["all"]:
            cells += [str(entities[name]["entities"]), f"{entities[name]['f1']:.4f}"]
        table.add_row(f"{escape(name)}{worst}", *cells, end_section=name == "all")
    return table


def classes_table(evaluation: dict[str, Any], labels: list[str]) -> Table:
    """A table of precision, recall and F1 by class, or by type of entity where words have tags."""
    types: dict[str, Any] = evaluation.get("entities", {}).get("types", {})
    scores = list(types.values()) if types else evaluation["overall"]["classes"]
    table = Table(title="Entities" if types else "Classes", title_justify="left")
    table.add_column("type" if types else "label")
    for column in ("examples", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for label, score in zip(types or labels, scores, strict=True):
        figures = (f"{score[key]:.4f}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(label), str(score["support"]), *figures)
    return table


def _sites_table(result: dict[str, Any], claims: Mapping[str, Claim]) -> Table:
    table = Table(title="Sites", title_justify="left")
    table.add_column("site")
    for column in ("declared size", "rounds", "epsilon", "of budget", "delta", "noise multiplier", "all runs"):
        table.add_column(column, justify="right")
    for site in result["sites"]:
        private = ("none", "", "", "", "")
        if result["private"]:
            private = (
                f"{site['epsilon']:.3f}",
                f"{site['epsilon_budget']:g}",
                f"{site['delta']:.1e}",
                f"{site['noise_multiplier']:.4f}",
                f"{claims[site['name']].epsilon:g}" if site["name"] in claims else "",
            )
        table.add_row(site["name"], str(site["declared_size"]), str(site["rounds_replied"]), *private)
    return table
