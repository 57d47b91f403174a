"""A lock between processes on one machine, held by a file; where the system has none (Windows), none is held."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]

_POLL = 0.2
"""Seconds between two tries to take a lock that somebody holds."""


@contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold the lock on the file at ``path``, which is made where it is missing (0600).

    The system takes the lock back from a process that dies.

    Args:
        path: the file; it stays.
        patience: seconds to wait for another process; None to wait for ever.

    Raises:
        BlockingIOError: another process held it all along.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if patience is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_POLL)
        yield
    finally:
        os.close(handle)
