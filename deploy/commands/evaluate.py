"""`hanse evaluate`: score a saved model on labelled texts with the shared evaluation module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    data: Annotated[str, typer.Argument(help="CSV, JSONL or Parquet file, folder, hub:ID, or embedded.")],
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    domain_column: Annotated[str, typer.Option(help="Column to score separately by; empty for none.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the evaluation as JSON.")] = False,
) -> None:
    """Score a saved model: accuracy, F1, MCC, loss, calibration, per class and per domain."""
    from common.evaluation import evaluate_logits
    from common.examples import Columns
    from common.sources import load_source
    from deploy.inference import SavedModel

    saved = SavedModel(model)
    dataset, report = load_source(data, saved.labels, Columns(text_column, label_column, domain_column))
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    examples = dataset.test or dataset.examples
    logits = saved.logits([example.text for example in examples])
    domains = [example.domain for example in examples] if any(e.domain for e in examples) else None
    evaluation = evaluate_logits(logits, [example.label for example in examples], domains)
    if as_json:
        print(json.dumps(evaluation.to_json(), indent=2, sort_keys=True))
        return
    from deploy.console import wide_console
    from deploy.results import classes_table, evaluation_table

    console = wide_console()
    part = "test part" if dataset.test else "all rows"
    console.print(evaluation_table(evaluation.to_json(), f"{data} ({part})"))
    console.print(classes_table(evaluation.to_json(), saved.labels))
