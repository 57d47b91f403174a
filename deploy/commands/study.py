"""`hanse study`: write, show and check study files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["app"]

app = typer.Typer(help="Write, show and check study files.", no_args_is_help=True)

_Study = Annotated[Path | None, typer.Argument(help="Study file; without one the embedded default study.")]
_Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as privacy.epsilon=3.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a commented study file to start from."""
    from common.files import write_text
    from deploy.default_study import DEFAULT_STUDY

    if path.exists() and not force:
        raise BadInput(f"{path}: exists already; name another file or add --force")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}")
    write_text(path, DEFAULT_STUDY)
    typer.echo(f"Wrote {path}. Try: hanse study check {path}")


@app.command()
def show(study: _Study = None, override: _Overrides = None, as_json: _Json = False) -> None:
    """Show the resolved study, every key spelled out."""
    from deploy.default_study import load_study

    parsed = load_study(study, override or [])
    if as_json:
        print(json.dumps(json.loads(parsed.to_json()), indent=2, sort_keys=True))
        return
    import tomli_w

    print(tomli_w.dumps(parsed.model_dump(mode="json", exclude_none=True)), end="")


@app.command()
def check(study: _Study = None, override: _Overrides = None, as_json: _Json = False) -> None:
    """Check a study and its data, and forecast noise, epsilon by round, bytes and rough time."""
    from deploy.default_study import load_study
    from deploy.forecast import forecast, print_forecast

    found = forecast(load_study(study, override or []))
    if as_json:
        print(json.dumps(found.to_json(), indent=2, sort_keys=True))
    else:
        print_forecast(found)
