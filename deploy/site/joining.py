"""Joining a federation: from an invitation to a site's folder with keys, and one public key to hand back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from client.policy_file import read_policy
from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.keys import private_folder, write_private
from common.study import Study
from deploy.federation.invitation import Invitation
from deploy.federation.node_keys import NodePublicKey, create_node_key
from deploy.site.home import FederationFile, NodeFile, NodeHome, SiteFile, SiteHome

__all__ = ["Joined", "Joining", "join"]

_SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class Joining:
    """What the institution says when it joins."""

    data: Path | None = None
    """Its data; None where the folder has joined another federation and says it already."""
    policy: Path | None = None
    """Its policy, copied into the folder; None where one lies there."""
    node: Path | None = None
    """The node's folder; None for one within the site's."""
    socket: Path | None = None
    """Where the guard is to listen; None for the site's own folder."""
    socket_group: str = ""


@dataclass(frozen=True)
class Joined:
    """A site that joined."""

    site: SiteHome
    node: NodeHome
    key: NodePublicKey
    study: Study


def join(invitation: Invitation, home: Path, joining: Joining) -> Joined:
    """Make the folder ready for the invitation's federation, or add the federation to those it has joined.

    Nothing is written before all of it was looked at.

    Raises:
        BadInput: a value is missing or cannot be used, or the federation was joined before.
    """
    site, manifest = SiteHome(home), invitation.manifest
    node = NodeHome(joining.node or site.nodes / manifest.federation)
    if node.file.exists() or any(each.federation == manifest.federation for each in site.joined()):
        raise BadInput(f"{home}: has joined {manifest.federation} before; leave it as it is, or name a new folder")
    content = _site_file(site, invitation, joining)
    _check_policy(site, joining.policy, manifest.site)
    for folder in (
        site.path,
        site.federations,
        site.logs,
        *_nodes(site, node),
        node.path,
        node.flower,
        node.logs,
        node.temporary,
    ):
        private_folder(folder)
    key = create_node_key(node.key)
    write_private(node.secret, os.urandom(_SECRET_BYTES))
    write_text(node.authority, invitation.authority.decode("ascii"))
    if joining.policy is not None:
        write_text(site.directory.policy, joining.policy.read_text(encoding="utf-8"))
    site.add(
        FederationFile(
            federation=manifest.federation,
            address=manifest.address,
            witness_key=manifest.witness_key,
            invitation=invitation.fingerprint,
            joined=datetime.now(UTC).replace(microsecond=0),
        ),
        invitation.study_text,
    )
    site.write(content)
    node.write(
        NodeFile(
            federation=manifest.federation,
            site=manifest.site,
            address=manifest.address,
            socket=str(site.socket()),
        )
    )
    return Joined(site, node, key, invitation.study())


def _nodes(site: SiteHome, node: NodeHome) -> list[Path]:
    return [site.nodes] if node.path.parent == site.nodes else []


def _site_file(site: SiteHome, invitation: Invitation, joining: Joining) -> SiteFile:
    name = invitation.manifest.site
    if site.file.is_file():
        before = site.read()
        if before.name != name:
            raise BadInput(
                f'{site.file}: name = "{before.name}": the invitation is for "{name}"; ask for one of yours'
            )
        if joining.data is not None and str(joining.data.absolute()) != before.data:
            raise BadInput(f"--data {joining.data}: this site's data is {before.data}; change it in {site.file}")
        return before
    if joining.data is None:
        raise BadInput("--data: is missing; name the file or folder with the site's data")
    if not joining.data.exists():
        raise BadInput(f"--data {joining.data}: no such file or folder")
    if site.path.is_dir() and any(each.name != "policy.toml" for each in site.path.iterdir()):
        raise BadInput(f"--at {site.path}: holds other things; name a new folder, or one with the policy alone")
    socket = "" if joining.socket is None else str(joining.socket.absolute())
    return SiteFile(name=name, data=str(joining.data.absolute()), socket=socket, socket_group=joining.socket_group)


def _check_policy(site: SiteHome, given: Path | None, name: str) -> None:
    """A policy that names another site would have every round refused."""
    if given is not None and site.directory.policy.exists():
        raise BadInput(f"--policy {given}: {site.directory.policy} exists; edit that one, or leave --policy out")
    path = given or site.directory.policy
    if not path.exists():
        raise BadInput(f"--policy: is missing; write one with: hanse policy new {site.directory.policy}")
    if (policy := read_policy(path)).site.name != name:
        raise BadInput(f'{path}: site.name = "{policy.site.name}": the invitation is for "{name}"')
