"""Talks to the sites through Flower's grid: who is there, ask all, take replies as they arrive."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.errors import BadInput, HanseError, RunFailed
from common.privacy.ledger.receipt import SignedReceipt
from common.schedule import schedule
from common.study import Study
from common.wire import DESCRIBE, RoundPlan, SiteDescription, pack_plan, raise_refusal, unpack_description
from common.wire_receipt import with_receipt

__all__ = ["Reply", "connected_sites", "descriptions", "replies"]

_REGISTRATION_SECONDS = 120.0
_DESCRIPTION_SECONDS = 600.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Reply:
    """A site's answer: content, or the error that came instead."""

    node: int
    content: RecordDict | None
    error: HanseError | None
    seconds: float
    """Since the question was sent."""


def connected_sites(
    grid: Grid, study: Study, run: str, registered: Collection[int] | None = None
) -> dict[int, SiteDescription]:
    """Wait for the study's sites and ask each who it is and whether it agrees; ids in the order of the partitions.

    In a deployment a run begins without the sites that are away, as long as ``federation.min_sites`` are there; a
    simulation wants all of its sites.

    Args:
        grid: reaches the sites' nodes.
        study: what they are asked to agree to.
        run: the run's identifier.
        registered: in a deployment, ids of the nodes that may take part; None for every node that comes.

    Raises:
        RunFailed: too few sites came or answered.
        HanseError: a site refused; the error is the site's own.
    """
    least = study.data.sites if registered is None else study.federation.min_sites
    nodes = _wait_for_nodes(grid, study.data.sites, least, registered)
    described: dict[int, SiteDescription] = {}
    for node, answer in descriptions(grid, study, run, nodes).items():
        if isinstance(answer, HanseError):
            raise answer
        described[node] = answer
    if len(described) < least:
        raise RunFailed(f"{len(nodes) - len(described)} of {len(nodes)} sites did not say who they are")
    ordered = dict(sorted(described.items(), key=lambda item: (item[1].partition, item[1].name)))
    if len({site.name for site in ordered.values()}) < len(ordered):
        raise BadInput("two sites have the same name; every site needs its own")
    return ordered


def descriptions(
    grid: Grid, study: Study, run: str, nodes: Collection[int], timeout: float | None = None
) -> dict[int, SiteDescription | HanseError]:
    """What each of ``nodes`` says of itself, or why it says nothing; one that is silent until then is left out."""
    first = schedule(study)[0]
    content = pack_plan(RoundPlan(study, 1, first.phase, first.steps, run), {})
    found: dict[int, SiteDescription | HanseError] = {}
    for reply in replies(grid, DESCRIBE, content, list(nodes), timeout or _DESCRIPTION_SECONDS):
        if reply.error:
            found[reply.node] = reply.error
            continue
        assert reply.content is not None
        try:
            found[reply.node] = unpack_description(reply.content)
        except HanseError as error:
            found[reply.node] = error
    return found


def replies(
    grid: Grid,
    kind: str,
    content: RecordDict,
    nodes: Mapping[int, object] | list[int],
    timeout: float,
    receipts: Mapping[int, SignedReceipt] | None = None,
) -> Iterator[Reply]:
    """Send ``content`` to every node and yield the replies as they arrive, until all came or time is up.

    A node that has one of ``receipts`` gets it beside the content.
    The content is packed once and shared by all messages; nothing is kept of a reply once it is yielded.
    """
    started = time.monotonic()
    own = {node: with_receipt(content, receipt) for node, receipt in (receipts or {}).items()}
    messages = [Message(own.get(node, content), node, kind, ttl=timeout + 60) for node in nodes]
    waiting = dict(zip(grid.push_messages(messages), nodes, strict=True))
    del messages
    while waiting and time.monotonic() - started < timeout:
        asked = time.monotonic()
        arrived = list(grid.pull_messages(list(waiting)))
        if not arrived and time.monotonic() - asked < _POLL_SECONDS / 2:
            time.sleep(_POLL_SECONDS)  # this grid does not wait for replies by itself
        while arrived:
            message = arrived.pop()
            node = waiting.pop(message.metadata.reply_to_message_id, None)
            if node is not None:
                yield _reply(node, message, time.monotonic() - started)


def _reply(node: int, message: Message, seconds: float) -> Reply:
    if message.has_error():
        reason = (message.error.reason or "").strip().splitlines()[-1:] or ["no reason given"]
        return Reply(node, None, RunFailed(f"a site failed: {reason[0]}"), seconds)
    try:
        raise_refusal(message.content)
    except HanseError as error:
        return Reply(node, None, error, seconds)
    return Reply(node, message.content, None, seconds)


def _wait_for_nodes(grid: Grid, sites: int, least: int, registered: Collection[int] | None) -> list[int]:
    deadline = time.monotonic() + _REGISTRATION_SECONDS
    while True:
        nodes = [node for node in grid.get_node_ids() if registered is None or node in registered]
        if len(nodes) >= sites:
            return nodes
        if time.monotonic() > deadline:
            if len(nodes) >= least:
                return nodes
            raise RunFailed(f"{len(nodes)} of {sites} sites connected within {_REGISTRATION_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
