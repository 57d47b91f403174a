"""`hanse report`: one run, or several side by side, as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; default RUN/report.html, or comparison.html here for several runs."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page; default the study's name.")] = "",
    track: Annotated[
        str | None, typer.Option(metavar="mlflow|tensorboard|wandb", help="Also log the runs to this tracker.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the file's name as JSON.")] = False,
) -> None:
    """Write a report: summary, scores, privacy by site, provenance; several runs are compared."""
    from deploy.report.page import write_report

    if len({run.resolve() for run in runs}) < len(runs):
        raise BadInput("RUN: the same run is named twice")
    file = out or (runs[0] / "report.html" if len(runs) == 1 else Path("comparison.html"))
    if track:
        from deploy.report.tracking import tracker

        log = tracker(track)
    write_report(runs, file, title)
    if track:
        from deploy.report.reading import read_run

        for run in runs:
            log(read_run(run, ledgers=False), run)
    if as_json:
        print(json.dumps({"report": str(file), "runs": [str(run) for run in runs]}))
    else:
        typer.echo(f"Wrote {file}")
