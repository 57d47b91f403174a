"""How much one node may ask of the coordinator: bytes in a request, requests in a second.

A node's message travels in pieces of at most 5 MiB (Flower's chunk of an array), each its own request; a model
of many arrays comes as a burst. The bounds leave room for both many times over: they are for a peer that floods.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["BURST", "LARGEST_BODY", "REQUESTS_A_SECOND", "RequestRate", "announced_size", "bounded"]

LARGEST_BODY: Final = 32 * 2**20
"""Bytes of one request."""
REQUESTS_A_SECOND: Final = 200.0
BURST: Final = 4000.0
"""Requests that may come at once, after a quiet while."""
_MOST_PEERS: Final = 10_000

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass
class _Allowance:
    left: float
    at: float


class RequestRate:
    """A token bucket for each peer; of many peers the ones heard of last are remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds; it is replaced in tests alone."""
        self._clock = clock
        self._peers: OrderedDict[tuple[bytes, str], _Allowance] = OrderedDict()

    def allows(self, key: bytes, host: str) -> bool:
        """Whether a request in the name of ``key`` from ``host`` may be answered; it counts if so.

        The host is part of the name: a key's public half is no secret, and whoever has it could otherwise use up
        its owner's allowance.
        """
        now, peer = self._clock(), (key, host)
        held = self._peers.setdefault(peer, _Allowance(BURST, now))
        self._peers.move_to_end(peer)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)
        held.left = min(BURST, held.left + (now - held.at) * REQUESTS_A_SECOND)
        held.at = now
        if held.left < 1:
            return False
        held.left -= 1
        return True


def announced_size(headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Bytes of the body as its headers say; 0 where they do not, or no server would read them so."""
    named = [value for name, value in headers if name.lower() == b"content-length"]
    return int(named[0]) if len(named) == 1 and named[0].isdigit() else 0


def bounded(receive: Receive, most: int = LARGEST_BODY) -> Receive:
    """``receive`` for as long as the body is at most ``most`` bytes; then the peer counts as gone."""
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > most else message

    return counted
