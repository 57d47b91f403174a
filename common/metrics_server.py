"""Serves Prometheus metrics over HTTP, on a Unix socket or a TCP address, from threads of this process.

Who scrapes is not trusted with the process: a few connections at a time, each for a few seconds, GET alone, and
an error in a collector leaves as status 500 and one line with its type (PRIVACY P15).
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from common.errors import BadInput, RunFailed

__all__ = ["serving_on_address", "serving_on_socket"]

_log = logging.getLogger("hanse.metrics")

_SECONDS: Final = 5.0
"""How long a scraper may be silent."""
_CONNECTIONS: Final = 8
_LONGEST_SOCKET: Final = 100
"""Bytes of a Unix socket's path that every system takes (Linux 107, macOS 103)."""


@contextmanager
def serving_on_socket(registry: CollectorRegistry, path: Path) -> Iterator[None]:
    """Serve on a Unix socket (0600) within the context; a socket that a killed process left there is replaced.

    Raises:
        BadInput: the path is too long for a socket.
        RunFailed: nothing can be bound there.
    """
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise BadInput(f"{path}: a socket's path may have {_LONGEST_SOCKET} bytes; use a shorter folder")
    if path.is_socket():
        path.unlink()
    server = _Server(socket.AF_UNIX, str(path), registry)
    _bind(server, str(path))
    try:
        path.chmod(0o600)  # before it listens: until then nobody can connect
        with _running(server):
            yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def serving_on_address(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serve on a TCP address within the context; gives the port, a free one where ``port`` is 0.

    Raises:
        RunFailed: the address cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise RunFailed(f"{host}:{port}: cannot listen there ({error.strerror})") from error
    server = _Server(family, address, registry)
    _bind(server, f"{host}:{port}")
    with _running(server):
        yield int(server.server_address[1])


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the parent's name for it
        """Say nothing: a line for each scrape would hide the rest."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * _CONNECTIONS
    allow_reuse_address: ClassVar[bool] = True  # type: ignore[misc]  # typeshed has it as an instance's

    def __init__(self, family: int, address: Any, registry: CollectorRegistry) -> None:
        self.address_family = family
        super().__init__(address, _Handler, bind_and_activate=False)
        self.set_app(_guarded(make_wsgi_app(registry)))
        self._places = threading.BoundedSemaphore(_CONNECTIONS)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would look the host's name up
        self.server_name, self.server_port = "metrics", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        return request, address or ("local", 0)  # a Unix socket's peer has no address

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that left is no event."""


def _guarded(app: Callable[..., Any]) -> Callable[..., Any]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        try:
            return app(environ, start)
        except Exception as error:  # noqa: BLE001 - its message may tell what no log may hold
            _log.error("failed: %s while metrics were collected", type(error).__name__)
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"the metrics could not be collected\n"]

    return answer


def _bind(server: _Server, where: str) -> None:
    try:
        server.server_bind()
    except OSError as error:
        server.server_close()
        raise RunFailed(f"{where}: cannot listen there ({error.strerror})") from error


@contextmanager
def _running(server: _Server) -> Iterator[None]:
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, args=[0.1], name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
