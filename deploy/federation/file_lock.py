"""A lock between processes on one machine, held by a file; where the system has none (Windows), none is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock on the file at ``path``, which is made where it is missing.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.

    """
    with path.open("a") as stream:
        try:
            import fcntl
        except ImportError:
            yield
            return
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
