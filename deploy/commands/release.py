"""`hanse release`: a signed release of a run's model, and its verification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

__all__ = ["app"]


class _ReleasesARun(TyperGroup):
    """`hanse release RUN` is short for `hanse release make RUN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command's name in front where a run stands first."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ReleasesARun, help="Release a run's model, signed; or verify a release.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def make(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    key: Annotated[Path, typer.Option(help="The coordinator's signing key; see: hanse release key.")],
    licence: Annotated[str, typer.Option(help="Under what the model may be used, such as Apache-2.0.")],
    shares: Annotated[
        str, typer.Option(help="Ownership by: shapley (contribution.json), equal or size.")
    ] = "shapley",
    out: Annotated[Path | None, typer.Option(help="New folder; default RUN/release.")] = None,
    as_json: _Json = False,
) -> None:
    """Make a signed release: weights' digests, study, sites and shares, ledger heads, licence, model card."""
    from common.errors import BadInput
    from common.privacy.ledger.keys import load_site_key
    from server.economics.rewards import Policy
    from server.release import ReleaseTerms, make_release

    if shares not in {each.value for each in Policy}:
        raise BadInput(f"--shares {shares}: must be shapley, equal or size")
    signing, folder = load_site_key(key), out or run / "release"
    body = make_release(run, ReleaseTerms(licence, Policy(shares)), signing, folder)
    if as_json:
        print(json.dumps({"folder": str(folder), "public_key": signing.public_hex, "body": body}, indent=2))
        return
    typer.echo(f"Released: {folder}")
    typer.echo(f"Verify it with: hanse release verify {folder} --key {signing.public_hex}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a release.")],
    key: Annotated[str, typer.Option(metavar="PUB", help="The coordinator's public key, or a file of it.")],
    as_json: _Json = False,
) -> None:
    """Verify a release under the coordinator's public key. Exit code 4 if it does not hold."""
    from deploy.key_option import public_key_of
    from server.release import verify_release

    body = verify_release(folder, public_key_of(key, key))
    if as_json:
        print(json.dumps({"verified": True, "body": body}, indent=2, sort_keys=True))
        return
    from rich.markup import escape
    from rich.table import Table

    from deploy.console import wide_console

    console = wide_console()
    console.print(
        f"Verified: signed by this key, and every file is as it was released. Licence: {body['licence']}"
    )
    table = Table(title=f"Study {escape(str(body['study_name']))}", title_justify="left")
    for heading in ("site", "declared size", "share of the model", "epsilon"):
        table.add_column(heading, justify="left" if heading == "site" else "right")
    sites = body["sites"]
    assert isinstance(sites, list)  # it was signed so
    for site in sites:
        assert isinstance(site, dict)
        epsilon = site.get("epsilon")
        share = f"{int(str(site['share_millionths'])) / 10_000:.4f} %"
        shown = f"{epsilon:.3f}" if isinstance(epsilon, float | int) else "-"
        table.add_row(escape(str(site["name"])), str(site["declared_size"]), share, shown)
    console.print(table)
    console.print(str(body["privacy"]), markup=False)


@app.command("key")
def new_key(
    file: Annotated[Path, typer.Argument(help="New file; it is made for its owner alone.")], as_json: _Json = False
) -> None:
    """Make the coordinator's signing key, for releases, payouts and auctions; prints the public half."""
    from common.privacy.ledger.keys import create_site_key

    made = create_site_key(file)
    print(json.dumps({"file": str(file), "public_key": made.public_hex}) if as_json else made.public_hex)
