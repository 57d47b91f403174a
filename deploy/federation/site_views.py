"""What the coordinator can say of each site: registered, connected or last seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.federation.control import FlowerNode
from deploy.federation.registry import SiteEntry

__all__ = ["SiteView", "site_views"]


@dataclass(frozen=True)
class SiteView:
    """One registered site, and its node if the SuperLink was asked."""

    site: SiteEntry
    state: str
    """``connected``, ``away``, ``never connected``, ``revoked``, or ``unknown`` while no coordinator runs."""
    last_seen: datetime | None = None
    """When it last connected or left."""

    def to_json(self) -> dict[str, Any]:
        """Public facts; the id as text, for it exceeds what JSON readers keep exactly."""
        return {
            "site": self.site.name,
            "state": self.state,
            "last_seen": self.last_seen.isoformat() if self.last_seen else None,
            "registered_at": self.site.registered_at.isoformat(),
            "fingerprint": self.site.key.fingerprint,
            "node": str(self.site.node_id) if self.site.node_id is not None else None,
        }


def site_views(sites: Sequence[SiteEntry], nodes: Sequence[FlowerNode] | None) -> list[SiteView]:
    """Join the coordinator's list with the SuperLink's; ``nodes`` is None where it could not be asked."""
    by_key = {node.pem: node for node in nodes or []}
    return [_view(site, None if nodes is None else by_key.get(site.key.pem), nodes is not None) for site in sites]


def _view(site: SiteEntry, node: FlowerNode | None, asked: bool) -> SiteView:
    moments = [moment for moment in (node.last_activated, node.last_deactivated) if moment] if node else []
    last_seen = max(moments, default=None)
    if site.revoked:
        return SiteView(site, "revoked", last_seen)
    if not asked:
        return SiteView(site, "unknown")
    if node is not None and node.status == "online":
        return SiteView(site, "connected", last_seen)
    return SiteView(site, "away" if last_seen else "never connected", last_seen)
