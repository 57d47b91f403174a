"""`hanse federation`: make a federation, invite and register its sites, see who is there."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from deploy.federation.coordinator_directory import CoordinatorDirectory
    from deploy.federation.runs import RunView
    from deploy.federation.site_views import SiteView

__all__ = ["app"]

app = typer.Typer(
    help="The coordinator: make a federation, invite and register its sites, see who is there.",
    no_args_is_help=True,
)

_Federation = Annotated[
    Path, typer.Option("--federation", envvar="HANSE_FEDERATION", help="The coordinator's folder.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Site = Annotated[str, typer.Argument(metavar="SITE", help="The site's name, as studies call it.")]


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="New folder of the coordinator.")],
    name: Annotated[str, typer.Option(help="What the sites see.")],
    address: Annotated[str, typer.Option(help="HOST:PORT under which the sites reach this machine.")],
    study: Annotated[Path | None, typer.Option(help="Study that the sites are invited to.")] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to listen on; default: every interface of this machine.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Make a federation: its certificate authority, the server's certificate, and the coordinator's keys."""
    from common.study_file import read_study
    from deploy.federation.certificates import read_certificate
    from deploy.federation.coordinator_directory import create_federation

    directory = create_federation(path, name, address, read_study(study) if study else None, listen)
    facts = read_certificate(directory.server[1])
    if as_json:
        report = {
            "path": str(directory.path),
            "address": directory.federation().address,
            "listen": directory.federation().listen,
            "authority": read_certificate(directory.authority[1]).fingerprint,
            "certificate_until": facts.not_after.isoformat(),
            "witness_key": directory.witness_key().public_hex,
        }
        print(json.dumps(report, indent=2, sort_keys=True))
        return
    typer.echo(f"Made {path}, for its owner alone. Keep a backup: its keys cannot be made again.")
    if study is None:
        typer.echo(f"Copy the study to {path / 'study.toml'} before you invite sites.")
    typer.echo(f"Next, for each site: hanse federation invite SITE --federation {path}")


@app.command()
def invite(
    site: _Site,
    federation: _Federation = Path(),
    out: Annotated[Path | None, typer.Option(help="File to write; default DIR/invitations/SITE.zip.")] = None,
    as_json: _Json = False,
) -> None:
    """Write the file that a site needs to join; it holds no secret."""
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.invitation import write_invitation

    directory = open_federation(federation)
    target = out or directory.invitations / f"{site}.zip"
    if out is None and Path(site).name != site:
        raise BadInput(f"site {site}: must be a name, not a path")
    if not target.parent.is_dir():
        raise BadInput(f"{target}: there is no folder {target.parent}")
    invitation = write_invitation(directory, site, target)
    if as_json:
        print(json.dumps({"path": str(target), "site": site, "fingerprint": invitation.fingerprint}))
        return
    typer.echo(f"Wrote {target}. Send it to {site}, and compare its fingerprint by telephone:")
    typer.echo(f"  {invitation.fingerprint}")


@app.command()
def register(
    site: _Site,
    key: Annotated[Path, typer.Argument(metavar="PUBKEYFILE", help="The .pub file that the site sent.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="SHA256:... as the site reads it out; another key is refused.")
    ] = None,
    federation: _Federation = Path(),
    as_json: _Json = False,
) -> None:
    """Let a site's node in; it holds at once if the coordinator runs, else from its next start."""
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.node_keys import read_public_key

    directory = open_federation(federation)
    public = read_public_key(key)
    if fingerprint is not None and fingerprint != public.fingerprint:
        raise BadInput(f"--fingerprint {fingerprint}: {key} holds the key {public.fingerprint}")
    directory.registry.register(site, public)
    running = _admit_if_running(directory)
    entry = directory.registry.site(site)
    if as_json:
        node = None if entry.node_id is None else str(entry.node_id)
        print(json.dumps({"site": site, "fingerprint": public.fingerprint, "running": running, "node": node}))
        return
    typer.echo(f"Registered {site}. Its key, to compare by telephone: {public.fingerprint}")
    if not running:
        typer.echo("The coordinator does not run; it lets the site in when it starts.")


@app.command()
def revoke(site: _Site, federation: _Federation = Path(), as_json: _Json = False) -> None:
    """Shut a site out at once, and its key for good."""
    from deploy.federation.coordinator_directory import open_federation

    directory = open_federation(federation)
    entry = directory.registry.revoke(site)
    running = _admit_if_running(directory)
    if as_json:
        print(json.dumps({"site": site, "fingerprint": entry.key.fingerprint, "running": running}))
        return
    typer.echo(f"Revoked {site}: {entry.key.fingerprint} is never let in again.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="New folder for everything.")] = Path("federation-demo"),
    as_json: _Json = False,
) -> None:
    """Run a coordinator and three sites on this machine: TLS, keys, own data files, a private study, an audit."""
    from dataclasses import asdict

    from deploy.federation_demo import run_demo

    report = run_demo(out, (lambda line: None) if as_json else typer.echo)
    if as_json:
        print(json.dumps(asdict(report), indent=2, sort_keys=True, default=str))
        return
    typer.echo(
        f"Done in {report.seconds:.0f} s: test accuracy {report.accuracy:.4f} after {report.rounds} rounds."
    )
    for site in report.sites:
        typer.echo(
            f"  {site.name}: epsilon {site.epsilon:.4f} at delta {site.delta:.3g}, {site.entries} ledger entries"
        )
    typer.echo("Each epsilon is for one row; a person with several rows is protected less.")
    typer.echo(f"The audit of all ledgers {'found no violation' if report.audit_passed else 'FOUND VIOLATIONS'}.")
    typer.echo(f"Run: {report.run}; coordinator and sites: {report.folder}")


@app.command()
def status(federation: _Federation = Path(), as_json: _Json = False) -> None:
    """Show the sites, connected or last seen, and the runs with their rounds."""
    from deploy.federation.certificates import read_certificate
    from deploy.federation.control import connect, is_answering
    from deploy.federation.coordinator_directory import open_federation
    from deploy.federation.runs import run_views
    from deploy.federation.site_views import site_views

    directory = open_federation(federation)
    running = is_answering(directory)
    with connect(directory) if running else nullcontext() as control:
        sites = site_views(directory.registry.sites(), control.nodes() if control else None)
        runs = run_views(directory, control)
    until = read_certificate(directory.server[1]).not_after
    settings = directory.federation()
    if as_json:
        report = {
            "federation": settings.name,
            "address": settings.address,
            "running": running,
            "certificate_until": until.isoformat(),
            "sites": [view.to_json() for view in sites],
            "runs": [view.to_json() for view in runs],
        }
        print(json.dumps(report, indent=2, sort_keys=True))
        return
    state = "runs" if running else "does not run; start it with: hanse coordinator run"
    typer.echo(f"{settings.name}: the coordinator at {settings.address} {state}")
    typer.echo(f"Its certificate is valid until {until:%Y-%m-%d}; it is renewed by itself.")
    _print_sites(sites)
    _print_runs(runs)


def _admit_if_running(directory: CoordinatorDirectory) -> bool:
    """Bring a running SuperLink in line with the list of sites; tell whether one runs."""
    from deploy.federation.admission import admit
    from deploy.federation.control import connect, is_answering

    if not is_answering(directory):
        return False
    try:
        with connect(directory) as control:
            admit(directory, control)
    except RunFailed as error:
        raise RunFailed(
            f"the list of sites is changed, but the running coordinator did not take it: {error}"
        ) from error
    return True


def _print_sites(sites: list[SiteView]) -> None:
    from rich.table import Table

    from deploy.console import wide_console

    table = Table(title="Sites", title_justify="left")
    for heading in ("site", "state", "last connected or left (UTC)", "key"):
        table.add_column(heading, overflow="fold")
    for view in sites:
        seen = f"{view.last_seen:%Y-%m-%d %H:%M:%S}" if view.last_seen else ""
        table.add_row(view.site.name, view.state, seen, view.site.key.fingerprint)
    wide_console().print(table if sites else "No sites are registered.")


def _print_runs(runs: list[RunView]) -> None:
    from deploy.commands.run import runs_table
    from deploy.console import wide_console

    shown: Any = runs_table(runs) if runs else "No runs yet."
    wide_console().print(shown)
