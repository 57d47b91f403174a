"""`hanse robustness`: how a saved model bears typos, case, synonyms, negation and an attacker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["robustness"]


def robustness(  # noqa: PLR0913 - each is an option of the command
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    data: Annotated[str, typer.Argument(help="CSV, JSONL or Parquet file, folder, hub:ID, or embedded.")],
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    texts: Annotated[int, typer.Option(min=1, help="Most texts to edit.")] = 500,
    attacked: Annotated[int, typer.Option(min=0, help="Most texts to attack by gradient; 0: none.")] = 100,
    words: Annotated[int, typer.Option(min=1, max=20, help="Most words the attacker replaces in a text.")] = 2,
    positive: Annotated[str, typer.Option(help="Label that praise speaks for.")] = "positive",
    negative: Annotated[str, typer.Option(help="Label that blame speaks for.")] = "negative",
    show: Annotated[int, typer.Option(min=0, help="Failing texts to show of each check.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of edits and samples; the same gives the same report.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a saved model on edited texts and under a bounded attack; English only."""
    from common.examples import Columns
    from common.sources import load_source
    from deploy.open_model import OpenModel
    from deploy.robustness.substitution import Attack
    from deploy.robustness.suite import Settings, checks_table, robustness_report, summary_table

    opened = OpenModel(model)
    _check_named(positive, negative, opened.labels)
    dataset, _ = load_source(data, opened.labels, Columns(text_column, label_column))
    examples = dataset.test or dataset.examples
    settings = Settings(seed, texts, attacked, Attack(words), positive, negative, show)
    rows = [example.text for example in examples]
    report = robustness_report(opened, rows, [example.label for example in examples], settings)
    if as_json:
        print(json.dumps(report.to_json(), indent=2, sort_keys=True))
        return
    from deploy.console import wide_console

    console = wide_console()
    console.print(f"accuracy before any edit: {report.accuracy:.4f}")
    console.print(checks_table(report))
    console.print(summary_table(report))
    for check in report.checks:
        for failure in check.examples:
            console.print(f"{check.name}: {failure.before!r} -> {failure.after!r}", markup=False)


def _check_named(positive: str, negative: str, labels: list[str]) -> None:
    """Refuse a label that was named on purpose and does not exist."""
    known = {label.lower() for label in labels}
    for option, name in (("--positive", positive), ("--negative", negative)):
        if name not in ("positive", "negative") and name.lower() not in known:
            raise BadInput(f"{option} {name}: not a label of the model; it has {', '.join(labels)}")
