"""Files that are either there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["append_line", "atomically", "write_json", "write_text"]


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it is synced and takes ``path``'s place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def append_line(path: Path, value: Any, durable: bool = True) -> None:
    """Append ``value`` as one line of JSON; with ``durable`` it is on disk when this returns.

    A last line that a crash cut short is taken away first: nobody was ever told that it had been written.
    """
    with path.open("ab+") as stream:
        _drop_torn_line(stream)
        stream.write(json.dumps(value, sort_keys=True).encode() + b"\n")
        stream.flush()
        if durable:
            os.fsync(stream.fileno())


def _drop_torn_line(stream: BinaryIO) -> None:
    end = stream.seek(0, os.SEEK_END)
    if end == 0:
        return
    stream.seek(end - 1)
    if stream.read(1) == b"\n":
        return
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
