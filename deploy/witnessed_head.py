"""A witnessed head as people type it: ``SEQ:HASH``."""

from __future__ import annotations

import re

from common.errors import BadInput
from common.privacy.ledger.details import Head

__all__ = ["parse_head"]

_HEAD = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})", re.ASCII)


def parse_head(given: str) -> Head:
    """The head; raises ``BadInput`` for anything but a place, a colon and a hash."""
    match = _HEAD.fullmatch(given)
    if match is None:
        raise BadInput(f"--head {given}: must be a place, a colon and 64 lower-case hexadecimal digits")
    return Head(sequence=int(match[1]), hash=match[2])
