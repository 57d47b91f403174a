"""What `hanse federation status` says, for the coordinator's page."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from deploy.federation.control import connect, is_answering
from deploy.federation.coordinator_directory import open_federation
from deploy.federation.runs import RunView, run_views
from deploy.federation.site_views import SiteView, site_views

__all__ = ["FederationView", "read_federation"]


@dataclass(frozen=True)
class FederationView:
    """A federation as its coordinator sees it."""

    name: str
    address: str
    running: bool
    """Whether the coordinator answers."""
    sites: tuple[SiteView, ...]
    runs: tuple[RunView, ...]


def read_federation(folder: Path) -> FederationView:
    """Ask the coordinator in ``folder``, if it runs, and read what lies there.

    Raises:
        HanseError: no federation there, or the coordinator gives no answer that can be read.
    """
    directory = open_federation(folder)
    running = is_answering(directory)
    with connect(directory) if running else nullcontext() as control:
        sites = site_views(directory.registry.sites(), control.nodes() if control else None)
        runs = run_views(directory, control)
    settings = directory.federation()
    return FederationView(settings.name, str(settings.address), running, tuple(sites), tuple(runs))
