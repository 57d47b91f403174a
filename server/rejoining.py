"""In a deployment: sites that were missing come back, and all are told what was witnessed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from flwr.app import RecordDict
from flwr.serverapp import Grid

from common.errors import HanseError, RunFailed
from common.study import Study
from common.wire import SiteDescription
from common.wire_receipt import RECEIPT
from server.messaging import descriptions, replies
from server.records import RoundRecord
from server.rounds import Coordinator

__all__ = ["reconnected_sites", "rejoined", "tell_last_receipts"]

_RETURN_SECONDS = 120.0
"""Seconds that the sites of a run that is resumed may take to connect."""
_POLL_SECONDS = 0.2
_PATIENCE = 60.0
"""Seconds that a site may take to answer; one that is away costs the others no more."""


def reconnected_sites(
    grid: Grid, study: Study, run: str, known: Mapping[int, SiteDescription]
) -> dict[int, SiteDescription]:
    """The sites of a run that goes on: those that answer describe themselves anew, the others stay as they were.

    Raises:
        RunFailed: fewer than ``federation.min_sites`` answer.
        HanseError: so few because sites refused; the error is the first refusal.
    """
    deadline = time.monotonic() + _RETURN_SECONDS
    while (back := set(grid.get_node_ids()) & known.keys()) != known.keys() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    sites, refusals = dict(known), []
    found = descriptions(grid, study, run, sorted(back))
    for node, answer in found.items():
        if isinstance(answer, HanseError):
            refusals.append(answer)
        elif _same_facts(known[node], answer):
            sites[node] = answer
        else:
            refusals.append(RunFailed(f"site {answer.name}: declares other facts than when the run began"))
    answered = len(found) - len(refusals)
    if answered < study.federation.min_sites:
        if refusals:
            raise refusals[0]
        raise RunFailed(
            f"{answered} of {len(known)} sites came back within {_RETURN_SECONDS:.0f} s, "
            f"federation.min_sites = {study.federation.min_sites}; resume the run when they run"
        )
    return sites


def rejoined(coordinator: Coordinator, record: RoundRecord) -> Coordinator:
    """The coordinator with fresh descriptions of the sites that gave no update in the round of ``record``.

    A guard that was started anew has another nonce, without which it reserves nothing (P8). A site that does not
    answer, refuses, or declares other facts than before stays as it was, and may be asked again in the next round.
    Nobody waits for one that is not connected.
    """
    if coordinator.witness is None:
        return coordinator
    missing = {site.site for site in record.sites if not site.replied}
    connected = set(coordinator.grid.get_node_ids()) if missing else set()
    nodes = [node for node, site in coordinator.sites.items() if site.name in missing and node in connected]
    if not nodes:
        return coordinator
    study = coordinator.study
    patience = min(_PATIENCE, study.federation.round_timeout_seconds)
    sites = dict(coordinator.sites)
    for node, found in descriptions(coordinator.grid, study, coordinator.run, nodes, patience).items():
        if not isinstance(found, HanseError) and _same_facts(sites[node], found):
            coordinator.directory.event("site-back", site=found.name)
            sites[node] = found
    return replace(coordinator, sites=sites)


def tell_last_receipts(coordinator: Coordinator) -> None:
    """Send each site what was witnessed of it after the last round; one that is away gets it in its next run."""
    if coordinator.witness is None:
        return
    receipts = coordinator.witness.receipts(coordinator.sites)
    for reply in replies(coordinator.grid, RECEIPT, RecordDict({}), list(receipts), _PATIENCE, receipts):
        name = coordinator.sites[reply.node].name
        coordinator.directory.event("receipt-delivered", site=name, reason=str(reply.error or ""))


def _same_facts(before: SiteDescription, now: SiteDescription) -> bool:
    return replace(now, nonce=before.nonce) == before
