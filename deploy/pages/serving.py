"""Serves a page on the loopback address until it is interrupted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from common.errors import BadInput

__all__ = ["STYLE", "bound_socket", "serve_until_interrupted"]

STYLE = Path(__file__).resolve().parents[1] / "report" / "templates" / "style.css"
"""The style sheet of every page."""


def bound_socket(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes a free one.

    Raises:
        BadInput: the port is taken, or may not be used.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise BadInput(f"--port {port}: {error.strerror}; name another, or 0 for any free one") from None
    listening.listen(128)
    return listening


def serve_until_interrupted(
    app: ASGIApp, listening: socket.socket, ended: Event, started: Callable[[], None]
) -> None:
    """Serve ``app``; returns after Ctrl-C. Requests are not logged: their addresses hold the token.

    Args:
        app: behind its token.
        listening: from :func:`bound_socket`.
        ended: is set as soon as the server is asked to end, so that streams of events do not hold it up.
        started: called once, before the first request.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    started()
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config, ended).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ended: Event) -> None:
        super().__init__(config)
        self._ended = ended

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ended.set()
        super().handle_exit(sig, frame)
