"""`hanse dashboard`: the live page of runs, of a site's budget, or of a federation, on this machine only."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["dashboard"]


def dashboard(
    runs: Annotated[
        Path | None, typer.Argument(metavar="[RUNS_DIR]", help="Folder of run directories; default runs.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option(help="An institution's folder: its ledger, budget and a forecast.")
    ] = None,
    forecast: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="With --site: the study to forecast; default the embedded one."),
    ] = None,
    federation: Annotated[Path | None, typer.Option(help="A coordinator's folder: its sites and runs.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
) -> None:
    """Serve a live page on this machine until Ctrl-C; open the address that it prints."""
    if forecast is not None and site is None:
        raise BadInput(f"--forecast {forecast}: is for a site's officer; add --site FOLDER")
    from deploy.dashboard.app import DashboardSettings, dashboard_app
    from deploy.pages.access import Guarded, new_token
    from deploy.pages.serving import bound_socket, serve_until_interrupted

    if runs is None and federation is not None:
        from deploy.federation.coordinator_directory import open_federation

        runs = open_federation(federation).runs
    if runs is None and site is None:
        runs = Path("runs")
    if site is not None:
        from deploy.own_ledger import open_own_ledger

        open_own_ledger(site)  # a wrong folder is told here, not on the page
    token, ended = new_token(), Event()
    app = Guarded(dashboard_app(DashboardSettings(token, runs, site, forecast, federation), ended), token)
    first = "/" if runs is not None else "/site"
    with bound_socket(port) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}{first}?token={token}"
        serve_until_interrupted(app, listening, ended, lambda: typer.echo(f"{address}\nCtrl-C ends it."))
