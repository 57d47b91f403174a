"""Lets in only who holds the token, and sends the headers that keep a page to itself.

1. The request's Host is a name of this machine and port: a foreign page cannot reach in by rebinding its name.
2. Its Origin, where a browser sends one, is the page itself.
3. It carries the token, in the query (``?token=``) or as ``Authorization: Bearer``; never in a cookie, so that no
   other page can have a browser send it, and no other port of this machine sees it. The files of the page (script,
   style) hold nothing and need none.

Each answer forbids scripts, styles, images and connections from anywhere else, framing, caching and referrers.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_SECURITY_POLICY", "Guarded", "new_token", "within_size"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


def new_token() -> str:
    """A token that nobody guesses: 144 random bits, fit for a URL."""
    return secrets.token_urlsafe(18)


class Guarded:
    """An ASGI application behind the three checks of this module."""

    def __init__(self, app: ASGIApp, token: str, open_prefix: str = "/static/") -> None:
        """Guard ``app``; paths under ``open_prefix`` need no token."""
        self._app = app
        self._token = token.encode()
        self._open = open_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it with 400, 401 or 403."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if host.rpartition(":")[0] not in _LOCAL_NAMES and host not in _LOCAL_NAMES:
            return PlainTextResponse("this page answers to this machine's own name only\n", 400)
        origin = headers.get(b"origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("another page may not ask here\n", 403)
        if scope["path"].startswith(self._open) or self._has_token(scope, headers):
            return None
        return PlainTextResponse("the token is missing or wrong: open the address that the command printed\n", 401)

    def _has_token(self, scope: Scope, headers: Mapping[bytes, str]) -> bool:
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)


def within_size(app: ASGIApp, largest: int) -> ASGIApp:
    """An application that refuses requests with a body of more than ``largest`` bytes (413)."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > largest:
            await PlainTextResponse(f"the request is larger than {largest} bytes\n", 413)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > largest:  # a chunked body that told no length: as if the other side had hung up
                return {"type": "http.disconnect"}
            return message

        await app(scope, counted, send)

    return bounded
