"""A file of the ledger heads that came with rounds: a line a round, the sites by name (PRIVACY P8)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from common.files import append_line
from common.privacy.ledger.details import Head

__all__ = ["append_heads", "newest_heads"]


def append_heads(path: Path, round_number: int, heads: Mapping[str, Head], **more: str) -> None:
    """Append a round's heads, on disk when this returns; nothing where there are none."""
    if heads:
        seen = {site: head.model_dump() for site, head in heads.items()}
        append_line(path, {"round": round_number, "heads": seen, **more})


def newest_heads(path: Path) -> dict[str, Head]:
    """The newest head of each site; a line cut short by a crash is left out: it was never acknowledged."""
    newest: dict[str, Head] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                newest |= {site: Head(**head) for site, head in json.loads(line)["heads"].items()}
    return newest
