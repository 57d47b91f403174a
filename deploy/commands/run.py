"""`hanse run`: start, follow, stop and resume a study's runs across the sites."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from deploy.federation.runs import RunView

__all__ = ["app", "runs_table"]

app = typer.Typer(help="Start, follow, stop and resume runs across the sites.", no_args_is_help=True)

_Federation = Annotated[
    Path, typer.Option("--federation", envvar="HANSE_FEDERATION", help="The coordinator's folder.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def submit(
    federation: _Federation = Path(),
    study: Annotated[
        Path | None, typer.Option(help="Study to run; by default the one that the sites were invited to.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder; default STUDY-TIME.")] = None,
    as_json: _Json = False,
) -> None:
    """Start a study with the registered sites; after two minutes federation.min_sites are enough."""
    from common.study_file import read_study
    from deploy.federation.control import connect
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.runs import submit_run

    directory = open_federation(federation)
    plan = read_study(study) if study else directory.read_study()
    with connect(directory) as control:
        view = submit_run(directory, control, plan, name)
    _print_one(view, f"Started {view.name}. Follow it with: hanse run status {view.name}", as_json)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="RUN", help="One run; by default all of them.")] = None,
    federation: _Federation = Path(),
    as_json: _Json = False,
) -> None:
    """Show the runs: state, rounds, and why one failed."""
    from common.errors import BadInput
    from deploy.console import wide_console
    from deploy.federation.control import connect, is_answering
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.runs import run_views

    directory = open_federation(federation)
    running = is_answering(directory)
    with connect(directory) if running else nullcontext() as control:
        views = [view for view in run_views(directory, control) if name in (None, view.name)]
    if name is not None and not views:
        raise BadInput(f"run {name}: no such run in {directory.runs}")
    if as_json:
        print(json.dumps([view.to_json() for view in views], indent=2, sort_keys=True))
        return
    if not running:
        typer.echo("The coordinator does not run: this is what the runs wrote.")
    wide_console().print(runs_table(views) if views else "No runs yet.")


@app.command()
def stop(
    name: Annotated[str | None, typer.Argument(metavar="RUN", help="By default the one that is going.")] = None,
    federation: _Federation = Path(),
    as_json: _Json = False,
) -> None:
    """Stop a run; it can be resumed. A round under way counts in full in the sites' ledgers."""
    from deploy.federation.control import connect
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.runs import stop_run

    directory = open_federation(federation)
    with connect(directory) as control:
        view = stop_run(directory, control, name)
    _print_one(view, f"Stopped {view.name}. Go on with: hanse run resume {view.name}", as_json)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run that was stopped or failed.")],
    federation: _Federation = Path(),
    as_json: _Json = False,
) -> None:
    """Go on with a run from its last checkpoint."""
    from deploy.federation.control import connect
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.runs import resume_run

    directory = open_federation(federation)
    with connect(directory) as control:
        view = resume_run(directory, control, name)
    _print_one(view, f"Resumed {view.name}. Follow it with: hanse run status {view.name}", as_json)


def runs_table(views: Sequence[RunView]) -> Table:
    """A row for each run."""
    from rich.table import Table

    table = Table(title="Runs", title_justify="left")
    for heading in ("run", "state", "rounds done", "last", "message"):
        table.add_column(heading, overflow="fold")
    for view in views:
        progress = view.progress
        rounds = f"{progress.finished_round} of {progress.rounds}" if progress.rounds else ""
        table.add_row(view.name, view.state, rounds, progress.last_event, view.to_json()["message"])
    return table


def _print_one(view: RunView, sentence: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(view.to_json(), indent=2, sort_keys=True))
    else:
        typer.echo(sentence)
