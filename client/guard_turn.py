"""One job at a time at a guard: whose turn it is, how long it may take, and how it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import RunFailed

__all__ = ["Busy", "Turns"]


class Busy(RunFailed):
    """The guard is at work for others."""


class Turns:
    """Hands out turns: one job runs, a few may wait for it, all others are turned away at once."""

    def __init__(self, waiting: int = 1) -> None:
        """``waiting`` jobs may wait, each holding a plan's weights in memory."""
        self._places = threading.BoundedSemaphore(1 + waiting)
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._deadline = float("inf")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, taken before a request is read; raises :class:`Busy` if there is none."""
        if not self._places.acquire(blocking=False):
            raise Busy("guard: busy, and others wait already; ask again later")
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def job(self, seconds: float) -> Iterator[None]:
        """The turn itself, for ``seconds`` with the wait for it; raises :class:`Busy` if it never comes."""
        deadline = time.monotonic() + seconds
        if not self._turn.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            raise Busy("guard: busy until the round's deadline; ask again later")
        try:
            self._stop.clear()
            self._deadline = deadline
            yield
        finally:
            self._deadline = float("inf")
            self._turn.release()

    def stop(self) -> bool:
        """Tell the running job to stop; whether there is one."""
        running = self._turn.locked()
        if running:
            self._stop.set()
        return running

    def check(self) -> None:
        """Called by the job every now and then; raises ``RunFailed`` once it was stopped or is late."""
        if self._stop.is_set():
            raise RunFailed("the site's operator stopped the round")
        if time.monotonic() > self._deadline:
            raise RunFailed("the site did not finish within federation.round_timeout")
