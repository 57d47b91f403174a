"""Brings Flower's list of nodes in line with the coordinator's own list of sites."""

from __future__ import annotations

from dataclasses import dataclass

from common.file_lock import locked
from deploy.federation.control import Control
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.registry import Registry

__all__ = ["Admission", "admit"]


@dataclass(frozen=True)
class Admission:
    """What changed at the SuperLink."""

    registered: tuple[str, ...]
    unregistered: tuple[str, ...]


def admit(directory: CoordinatorDirectory, control: Control) -> Admission:
    """Register the sites that the SuperLink does not know, unregister all other nodes, and note the nodes' ids.

    Doing it again changes nothing. Raises ``RunFailed`` if the coordinator refuses, ``BadInput`` if the list of
    sites cannot be read.
    """
    # A command may come while the coordinator itself does this at a start.
    with locked(directory.admission_lock):
        return _admit(directory.registry, control)


def _admit(registry: Registry, control: Control) -> Admission:
    known = {node.pem: node for node in control.nodes() if node.status != "unregistered"}
    registered, unregistered = [], []
    current = {site.key.pem: site for site in registry.current()}
    for pem, site in current.items():
        if pem not in known:
            registry.note_node(site, control.register(site.name, site.key))
            registered.append(site.name)
        elif site.node_id != known[pem].node_id:
            registry.note_node(site, known[pem].node_id)
    for pem, node in known.items():
        if pem not in current:
            control.unregister(node.node_id)
            unregistered.append(node.name)
    return Admission(tuple(registered), tuple(unregistered))
