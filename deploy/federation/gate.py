"""Who may ask the coordinator's HTTP server for what, decided before a request's body is read.

Flower serves three interfaces on one port: Fleet for the sites' nodes, Control for the operator, Runtime for
the ServerApp. Its open-source edition asks nobody who they are on Control, and starting a run there executes
code. Hence three rules here, besides Flower's own check of each node's signature:

- from elsewhere only ``/v1/fleet/`` and ``/health`` exist;
- a Fleet request must name the node key of a registered site, so that strangers cost no memory, and a revoked
  site is out at once; and no larger, and no oftener, than a node's requests ever are;
- Control wants the token that lies in the coordinator's folder.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from flwr.supercore.auth.typing import AccountInfo
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin

from deploy.federation.registry import Registry
from deploy.federation.request_limits import LARGEST_BODY, RequestRate, announced_size, bounded

__all__ = ["REFUSED_KEY", "Gate", "TokenAuthentication"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

REFUSED_KEY: Final = 9001
"""Error code in the form of Flower's own, so that a SuperNode shows its operator the sentence with it."""

_LOG = logging.getLogger(__name__)

_FLEET: Final = "/v1/fleet/"
_HEALTH: Final = "/health"
_KEY_HEADER: Final = b"flwr-public-key"
_LOOPBACK: Final = ("127.0.0.1", "::1")


class TokenAuthentication(NoOpControlAuthnPlugin):
    """Flower's single account, for whoever holds the token."""

    def __init__(self, token: str) -> None:
        """Accept ``token`` alone."""
        super().__init__()
        self._token = token.encode()

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Whether a request carries the token; Flower passes its bearer token as the only entry."""
        for _, given in metadata:
            if hmac.compare_digest(given.encode() if isinstance(given, str) else given, self._token):
                return super().validate_tokens_in_metadata(metadata)
        return False, None


class Gate:
    """An ASGI application before Flower's."""

    def __init__(self, inner: Application, registry: Registry) -> None:
        """Guard ``inner``; ``registry`` is read again when its file changed: a change holds at once."""
        self._inner = inner
        self._registry = registry
        self._keys: frozenset[bytes] = frozenset()
        self._read_at: object = None
        self._rate = RequestRate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            # By now uvicorn has set up its logs. A line a second for the SuperExec's polling would hide the rest.
            logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
            await self._inner(scope, receive, send)
        elif scope["type"] != "http":
            return
        elif scope["path"].startswith(_FLEET):
            await self._answer_node(scope, receive, send)
        elif scope["path"] == _HEALTH or _is_local(scope):
            await self._inner(scope, receive, send)
        else:
            await _answer(send, 404, {"detail": "Not Found"})

    async def _answer_node(self, scope: Scope, receive: Receive, send: Send) -> None:
        key, host = _named_key(scope), (scope.get("client") or ("?",))[0]
        if not self._is_registered(key):
            _LOG.warning("refused a node at %s: its key is not registered", host)
            sentence = "this node's key is not registered, or was revoked: send its .pub file"
            await _answer(send, 410, {"code": REFUSED_KEY, "detail": sentence})
        elif not self._rate.allows(key, host):
            _LOG.warning("refused a node at %s: it asks too often", host)
            await _answer(send, 429, {"detail": "too many requests"})
        elif announced_size(scope["headers"]) > LARGEST_BODY:
            _LOG.warning("refused a node at %s: its request is too large", host)
            await _answer(send, 413, {"detail": f"a request has at most {LARGEST_BODY} bytes"})
        else:
            await self._inner(scope, bounded(receive), send)

    def _is_registered(self, key: bytes) -> bool:
        if (stamp := self._registry.stamp()) != self._read_at:
            self._keys = frozenset(site.key.pem for site in self._registry.current())
            self._read_at = stamp
        return key in self._keys


def _named_key(scope: Scope) -> bytes:
    """The public key that a request names; empty where it names none, or several."""
    named = [value for name, value in scope["headers"] if name.lower() == _KEY_HEADER]
    try:
        return base64.b64decode(named[0], validate=True) if len(named) == 1 else b""
    except binascii.Error:
        return b""


def _is_local(scope: Scope) -> bool:
    """Whether the peer is this machine: loopback, or the very address that it connected to."""
    peer = (scope.get("client") or ("",))[0]
    own = (scope.get("server") or ("",))[0]
    return peer in _LOOPBACK or (bool(peer) and peer == own)


async def _answer(send: Send, status: int, body: dict[str, object]) -> None:
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),  # the body was not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
