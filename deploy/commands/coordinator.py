"""`hanse coordinator`: serve a federation."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.commands import coordinator_metrics

if TYPE_CHECKING:
    from types import FrameType


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
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if not as_json:
        typer.echo(f"{settings.name}: serving {settings.address} (listening on {settings.listen}); Ctrl-C ends it")
    run_coordinator(directory, stop, lambda event: tell_event(event, as_json))
