"""A TCP proxy between the sites and the coordinator that can cut and slow what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

__all__ = ["Proxy"]

_PIECE = 65_536
_SLOW_PIECE = 2_048
_SLOW_SECONDS = 0.02
"""About 100 kB a second."""


class Proxy:
    """Passes bytes on from one address to another, while it is left in peace."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int]) -> None:
        """Pass on what comes to ``listen``; nothing is open before the context is entered."""
        self._listen, self._to = listen, to
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.cut = False
        """Whether connections are refused."""
        self.slow = False
        """Whether bytes trickle."""

    def __enter__(self) -> Proxy:
        """Listen."""
        self._server = socket.create_server(self._listen)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._ended.set()
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """End every connection at once."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self.cut:
                near.close()
                continue
            try:
                far = socket.create_connection(self._to, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for here, there in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=[here, there], daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := here.recv(_SLOW_PIECE if self.slow else _PIECE):
                if self.slow:
                    time.sleep(_SLOW_SECONDS)
                there.sendall(piece)
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            with self._lock:
                self._open.discard(end)
