"""`hanse coordinator metrics`: serve what the runs wrote to Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput
from deploy.stop_signals import stop_on_signals

__all__ = ["metrics"]

_NEWEST = 20
"""Runs of a federation that are shown: each is a label of its own."""


def metrics(
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="A run's folder; may be given several times.")
    ] = None,
    federation: Annotated[
        Path,
        typer.Option("--federation", envvar="HANSE_FEDERATION", help="Without --run: its newest runs."),
    ] = Path(),
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to serve /metrics on; whoever reaches it can read it.")
    ] = "127.0.0.1:9464",
) -> None:
    """Serve rounds, replies, seconds, bytes and epsilon of runs as Prometheus metrics, until Ctrl-C or SIGTERM."""
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.metrics import serving_runs

    for path in run or ():
        if not path.is_dir():
            raise BadInput(f"--run {path}: no such folder")
    root = None if run else open_federation(federation).runs

    def shown() -> list[Path]:
        return run if run or root is None else _newest(root)  # type: ignore[return-value]  # run is set where root is not

    host, port = _parsed(listen)
    stop = stop_on_signals()
    with serving_runs(shown, host, port) as taken:
        typer.echo(f"Serving http://{_shown_host(host)}:{taken}/metrics; Ctrl-C ends it")
        stop.wait()


def _newest(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if (path / "study.toml").is_file()]
    folders.sort(key=lambda path: (path / "study.toml").stat().st_mtime, reverse=True)
    return folders[:_NEWEST]


def _parsed(listen: str) -> tuple[str, int]:
    """Unlike an address that others connect to, one to listen on may mean every interface, and any free port."""
    host, colon, port = listen.strip().rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"--listen {listen}: must be HOST:PORT, such as 127.0.0.1:9464")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
