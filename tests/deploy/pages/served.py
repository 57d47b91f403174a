"""Serves an application in a thread of the test's process, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import uvicorn
from starlette.types import ASGIApp

from deploy.pages.access import Guarded
from deploy.pages.serving import bound_socket

TOKEN = "token-of-the-test"


@contextmanager
def served(app: ASGIApp, ended: Event | None = None) -> Iterator[str]:
    """Within the context the application answers, behind its token, at the address that is given."""
    config = uvicorn.Config(
        Guarded(app, TOKEN), log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    with bound_socket(0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            if ended:
                ended.set()
            server.should_exit = True
            thread.join(timeout=20)
