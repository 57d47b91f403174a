"""`hanse evaluate`: score a saved model on labelled texts with the shared evaluation module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    data: Annotated[str, typer.Argument(help="CSV, JSONL, Parquet or CoNLL file, folder, hub:ID, or embedded.")],
    text_column: Annotated[
        str, typer.Option(help="Column that holds the text; lists of words in tokens.")
    ] = "text",
    label_column: Annotated[
        str, typer.Option(help="Column that holds the label; lists of tags in tags.")
    ] = "label",
    domain_column: Annotated[str, typer.Option(help="Column to score separately by; empty for none.")] = "",
    by: Annotated[list[str] | None, typer.Option(help="Further columns to score by; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Score a saved model: accuracy, F1, MCC, AUROC, loss, calibration; by class, domain, length, column."""
    from common.evaluation.report import Report
    from common.examples import Columns
    from deploy.evaluating import Asked, evaluate_saved

    columns = Columns(text_column, label_column, domain_column)
    evaluated = evaluate_saved(model, Asked(data, columns, tuple(by or ())))
    for warning in evaluated.warnings:
        typer.echo(f"warning: {warning}", err=True)
    found = evaluated.found.to_json()
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return
    from deploy.console import wide_console
    from deploy.evaluation_tables import figures_table, slices_table
    from deploy.results import classes_table, evaluation_table

    console = wide_console()
    console.print(evaluation_table(found, f"{data} ({evaluated.part})"))
    if isinstance(evaluated.found, Report):
        console.print(figures_table(evaluated.found))
        console.print(classes_table(found, evaluated.labels))
        for name, slices in evaluated.found.slices.items():
            console.print(slices_table(name, slices))
