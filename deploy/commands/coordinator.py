"""`hanse coordinator`: serve a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands import coordinator_metrics
from deploy.stop_signals import stop_on_signals

__all__ = ["app"]

app = typer.Typer(help="Serve a federation to its sites.", no_args_is_help=True)
app.command("metrics")(coordinator_metrics.metrics)


@app.callback()
def _group() -> None:
    """Serve a federation to its sites."""


@app.command()
def run(
    federation: Annotated[
        Path, typer.Option("--federation", envvar="HANSE_FEDERATION", help="The coordinator's folder.")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an event.")] = False,
) -> None:
    """Serve the federation until Ctrl-C or SIGTERM; its processes are restarted when they fail."""
    from deploy.federation.coordinator import run_coordinator
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.events import tell_event

    directory = open_federation(federation)
    settings = directory.federation()
    stop = stop_on_signals()
    if not as_json:
        typer.echo(f"{settings.name}: serving {settings.address} (listening on {settings.listen}); Ctrl-C ends it")
    run_coordinator(directory, stop, lambda event: tell_event(event, as_json))
