"""`hanse cleanup`: remove what Hanse keeps outside run directories."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

__all__ = ["cleanup"]


def cleanup(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """Remove the cache: embedded model and data, and leftovers of interrupted work. Runs are kept."""
    from common.assets import cache_folder

    folder = cache_folder()
    if not folder.exists():
        typer.echo(f"Nothing to remove: {folder} does not exist")
        return
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if not yes:
        typer.confirm(f"Remove {folder} ({size / 1e6:.0f} MB)?", abort=True)
    shutil.rmtree(folder)
    typer.echo(f"Removed {folder} ({size / 1e6:.0f} MB). Bring the assets back with: hanse assets fetch")
