"""`hanse data`: look at a site's rows before training; at the site, for its operator alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import BadInput

if TYPE_CHECKING:
    from deploy.data_check.checking import DataReport
    from deploy.data_check.texts import Rows

__all__ = ["app"]

app = typer.Typer(help="A site's own rows: check them before training.", no_args_is_help=True)

_FEATURES = ("encoder", "words", "none")


@app.callback()
def data() -> None:
    """Keep `check` a command of its own, also while it is the only one."""


@app.command()
def check(  # noqa: PLR0913 - each is an option of the command
    file: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet file.")],
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    group_column: Annotated[str, typer.Option(help="Column that names the person; empty for none.")] = "",
    labels: Annotated[str, typer.Option(help="The study's labels, between commas; else those of the file.")] = "",
    features: Annotated[
        str, typer.Option(metavar="encoder|words|none", help="What label noise is judged by.")
    ] = "encoder",
    base: Annotated[str, typer.Option(help="encoder: embedded model or a local folder.")] = "minilm-l6",
    seed: Annotated[int, typer.Option(min=0, help="Of the folds behind label noise.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a file: faults, labels, duplicates, label noise, lengths, language, personal data. Nothing leaves."""
    if features not in _FEATURES:
        raise BadInput(f"--features {features}: must be one of {', '.join(_FEATURES)}")
    from common.examples import Columns
    from deploy.data_check.checking import Wanted, check_file

    named = tuple(label.strip() for label in labels.split(",")) if labels else ()
    if named and (len(named) < 2 or len(set(named)) != len(named) or not all(named)):
        raise BadInput(f"--labels {labels}: give at least two different labels, between commas")
    columns = Columns(text_column, label_column, group=group_column)
    report = check_file(file, Wanted(columns, named, features, base, seed=seed))
    if as_json:
        print(json.dumps(report.to_json(), indent=2, sort_keys=True))
        return
    _print(report)


def _print(report: DataReport) -> None:
    from rich.table import Table

    from deploy.console import wide_console
    from deploy.data_check.checking import NOTHING_CHANGED

    table = Table(title="Rows", title_justify="left")
    table.add_column("finding")
    table.add_column("count", justify="right")
    table.add_column("rows (the first ten)")
    table.add_row("rows", str(report.rows), "")
    table.add_row("usable for training", str(report.usable), "")
    for label, count in report.labels.items():
        table.add_row(f"label {label}", str(count), "")
    repeated, near = report.duplicates, report.near_duplicates
    table.add_row("repeat an earlier text", str(repeated.rows.count), _numbers(repeated.rows))
    table.add_row("repeated texts with different labels", str(repeated.with_other_labels), "")
    table.add_row("nearly repeat an earlier text", str(near.rows.count), _numbers(near.rows))
    if report.suspected is not None:
        table.add_row(
            "label may be wrong, likeliest first", str(report.suspected.count), _numbers(report.suspected)
        )
    for kind, rows in report.personal.items():
        table.add_row(f"looks like: {kind}", str(rows.count), _numbers(rows))
    for kind, counts in (("script", report.scripts), ("language (a guess)", report.languages)):
        for name, count in counts.items():
            table.add_row(f"{kind}: {name}", str(count), "")
    console = wide_console()
    console.print(table)
    for line in (*_lines(report), report.told, *report.warnings, report.not_looked_at, NOTHING_CHANGED):
        if line:
            console.print(line, markup=False)


def _lines(report: DataReport) -> Iterator[str]:
    if report.lengths is not None:
        words = report.lengths
        yield (
            f"words: {words.smallest} to {words.largest}, median {words.median:g}, "
            f"95 % up to {words.percentile_95:g}"
        )
    if report.commonest_share is not None:
        yield f"always giving the commonest label: accuracy {report.commonest_share:.3f}"
    if report.most_rows_of_a_person is not None:
        yield f"most rows of one person: {report.most_rows_of_a_person}"


def _numbers(rows: Rows) -> str:
    return ", ".join(map(str, rows.first))
