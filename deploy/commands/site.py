"""`hanse site`: an institution joins a federation, checks itself, and runs its guard and node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput
from deploy.stop_signals import stop_on_signals

__all__ = ["app"]

app = typer.Typer(
    help="An institution: join a federation, check, and run its guard and node.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Home = Annotated[
    Path, typer.Argument(metavar="DIR", envvar="HANSE_SITE", help="The site's folder, or its node's.")
]


@app.command()
def join(  # noqa: PLR0913 - a command has as many options as it needs
    invitation: Annotated[Path, typer.Argument(metavar="INVITATION", help="The file that the coordinator sent.")],
    at: Annotated[Path, typer.Option("--at", metavar="DIR", help="The site's folder, made if missing.")],
    data: Annotated[
        Path | None, typer.Option(help="The site's data: CSV, JSON Lines, Parquet, or a folder.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The site's policy; copied into the folder.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="As the coordinator reads it out; another invitation is refused.")
    ] = None,
    node: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The node's folder, if it is to run as another user.")
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="Where the guard listens; by default in DIR.")] = None,
    socket_group: Annotated[
        str, typer.Option(metavar="GROUP", help="Group that may use the socket: that of the node's user.")
    ] = "",
    as_json: _Json = False,
) -> None:
    """Make the site's keys and folder from an invitation; hand back only the public key that it names."""
    from deploy.federation.invitation import read_invitation
    from deploy.site.joining import Joining, join

    invited = read_invitation(invitation)
    if fingerprint is not None and fingerprint.strip().lower() != invited.fingerprint:
        raise BadInput(f"--fingerprint {fingerprint}: {invitation} has the fingerprint {invited.fingerprint}")
    joined = join(invited, at, Joining(data, policy, node, socket, socket_group))
    if as_json:
        report = {
            "site": invited.manifest.site,
            "federation": invited.manifest.federation,
            "invitation": invited.fingerprint,
            "path": str(joined.site.path),
            "node": str(joined.node.path),
            "public_key": str(joined.node.public_key),
            "fingerprint": joined.key.fingerprint,
        }
        print(json.dumps(report, indent=2, sort_keys=True))
        return
    typer.echo(f"Joined {invited.manifest.federation} as {invited.manifest.site}, in {at}, for its owner alone.")
    if fingerprint is None:
        typer.echo(f"Compare the invitation by telephone with the coordinator: {invited.fingerprint}")
    typer.echo(f"Send {joined.node.public_key} to the coordinator, and read out: {joined.key.fingerprint}")
    typer.echo(f"Next: hanse site check {at}")


@app.command()
def check(
    home: _Home = Path(),
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the coordinator.")] = False,
    as_json: _Json = False,
) -> None:
    """Look at everything that would fail later: data, policy, budget, model, coordinator; exit code 1 if any."""
    from dataclasses import asdict

    from deploy.site.checks import check_node, check_site
    from deploy.site.home import NodeHome, SiteHome, is_node_home

    checks = check_node(NodeHome(home)) if is_node_home(home) else check_site(SiteHome(home), not offline)
    found = []
    for each in checks:
        found.append(each)
        if not as_json:
            print(f"{'pass' if each.passed else 'FAIL'}  {each.name}: {each.detail}", flush=True)
    passed = all(each.passed for each in found)
    if as_json:
        print(json.dumps({"ok": passed, "checks": [asdict(each) for each in found]}, indent=2))
    if not passed:
        raise typer.Exit(1)


@app.command()
def run(
    home: _Home = Path(),
    part: Annotated[str, typer.Option(help="both, guard (needs no network), or node (needs no data).")] = "both",
    unconfined: Annotated[
        bool,
        typer.Option("--unconfined", help="Run the node without the kernel's confinement, as a user of its own."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an event.")] = False,
) -> None:
    """Serve the site until Ctrl-C or SIGTERM; its processes are restarted when they fail."""
    from deploy.federation.events import tell_event
    from deploy.site.service import run_site

    if part not in ("both", "guard", "node"):
        raise BadInput(f"--part {part}: must be both, guard or node")
    stop = stop_on_signals()
    if not as_json:
        typer.echo(f"Serving {home}; Ctrl-C ends it")
    run_site(home, part, not unconfined, stop, lambda event: tell_event(event, as_json))  # type: ignore[arg-type]
