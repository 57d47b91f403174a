"""Runs a site: its guard, and a confined node for each federation that it joined."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from common.errors import BadInput, RunFailed
from common.file_lock import locked
from deploy.federation.processes import ChildPlan, ProcessEvent, Supervisor
from deploy.federation.supernode import supernode_plans
from deploy.site.confinement import can_confine, confined_plans
from deploy.site.guard_process import guard_plan
from deploy.site.home import NodeHome, SiteHome, is_node_home

__all__ = ["Part", "run_site", "site_plans"]

Part = Literal["both", "guard", "node"]


def run_site(
    path: Path, part: Part, confine: bool, stop: threading.Event, tell: Callable[[ProcessEvent], None]
) -> None:
    """Run what lies in a folder until ``stop`` is set; every process has ended when this returns.

    Args:
        path: a site's folder, or a node's.
        part: the guard, the nodes, or both.
        confine: whether the nodes are shut off from the institution's files by the kernel.
        stop: ends it.
        tell: hears of every event.

    Raises:
        BadInput: the folder cannot be used for that.
        RunFailed: the system cannot confine the nodes, or the same folder is served already.
    """
    plans = site_plans(path, part, confine)
    lock = path.absolute() / f".{part}.lock"
    try:
        with locked(lock, patience=0.0):
            Supervisor(plans, tell).run(stop)
    except BlockingIOError:
        raise RunFailed(f"{path}: is served by another hanse site run; stop it first") from None


def site_plans(path: Path, part: Part, confine: bool) -> list[ChildPlan]:
    """The processes in the order in which they start. Raises as :func:`run_site` does."""
    if is_node_home(path):
        if part != "node":
            raise BadInput(f"{path}: is a node's folder; run it with --part node, or name the site's folder")
        return _node_plans([NodeHome(path)], [], confine)
    home = SiteHome(path)
    site = home.read()
    nodes = home.node_homes()
    if part != "guard" and not nodes:
        raise BadInput(f"{home.nodes}: holds no node; name the node's own folder with --part node, or join first")
    private = [home.directory.policy, home.file, Path(site.data)]
    plans = [] if part == "node" else [guard_plan(home)]
    return plans if part == "guard" else [*plans, *_node_plans(nodes, private, confine)]


def _node_plans(nodes: list[NodeHome], private: list[Path], confine: bool) -> list[ChildPlan]:
    if confine and not can_confine():
        raise RunFailed(
            "this system cannot confine the node, which runs code that the coordinator sends: run guard and node "
            "as two users (docs/deploy.md), and then the node with --unconfined"
        )
    plans = []
    for node in nodes:
        name = node.read().federation
        own = supernode_plans(node.settings())
        if confine:
            own = confined_plans(own, node, private)
        plans += [replace(plan, name=f"{plan.name} {name}" if len(nodes) > 1 else plan.name) for plan in own]
    return plans
