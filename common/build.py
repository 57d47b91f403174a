"""Names the code that runs: what a site's ledger records of its own build (PRIVACY P1)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["build_digest"]

_ROOMS = ("client", "common")
"""All that runs at a site, the libraries below it apart."""


@lru_cache(maxsize=1)
def build_digest() -> str:
    """SHA-256 (hex) over names and contents of the source files of the rooms that run at a site.

    It tells builds apart for whoever can rebuild them; it does not prove which code ran.
    """
    digest = hashlib.sha256()
    for room in _ROOMS:
        spec = find_spec(room)
        assert spec is not None  # a room that imports this one is there
        for folder in spec.submodule_search_locations or ():
            for file in sorted(Path(folder).rglob("*.py")):
                content = file.read_bytes()
                name = f"{room}/{file.relative_to(folder).as_posix()}"
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()
