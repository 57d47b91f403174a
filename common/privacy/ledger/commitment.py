"""Commitments to the data that tell nobody anything without the site's key (PRIVACY P4).

A commitment is HMAC-SHA256(key, 01 | random | HMAC-SHA256(key, 00 | rows)), where ``random`` are the 16 bytes
of its entry. So it hides the data, and whether two entries were about the same data: a row added between two
rounds does not show in a bundle. With the key the site can still show an officer what an entry was about.
The key is random, one a site, and never leaves it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from common.errors import BadInput
from common.privacy.ledger.keys import check_private, write_private

__all__ = ["CommitmentKey", "DataSeal", "create_commitment_key", "load_commitment_key"]

_SIZE = 32


class DataSeal:
    """What a site remembers of its data in order to commit to it; it never leaves memory."""

    __slots__ = ("_inner", "_key")

    def __init__(self, key: bytes, inner: bytes) -> None:
        """``inner`` is the keyed digest of the rows."""
        self._key = key
        self._inner = inner

    def commitment(self, random: bytes) -> str:
        """The commitment of the entry that carries the 16 bytes ``random``: 64 hexadecimal digits."""
        return hmac.new(self._key, b"\x01" + random + self._inner, hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "DataSeal(...)"


class CommitmentKey:
    """The secret under which a site commits to its data."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take 32 secret bytes."""
        if len(key) != _SIZE:
            raise BadInput(f"commitment key: {len(key)} bytes: must be {_SIZE}")
        self._key = key

    def seal(self, rows: Iterable[bytes]) -> DataSeal:
        """Seal rows in their order, each preceded by its length in 8 bytes, so that rows cannot run together."""
        digest = hmac.new(self._key, b"\x00", hashlib.sha256)
        for row in rows:
            digest.update(len(row).to_bytes(8, "big"))
            digest.update(row)
        return DataSeal(self._key, digest.digest())

    def __repr__(self) -> str:
        return "CommitmentKey(...)"


def create_commitment_key(path: Path) -> CommitmentKey:
    """A new random key in a new file (0600)."""
    key = os.urandom(_SIZE)
    write_private(path, key.hex().encode("ascii") + b"\n")
    return CommitmentKey(key)


def load_commitment_key(path: Path) -> CommitmentKey:
    """The key in a file; refuses one that others may read."""
    check_private(path)
    try:
        return CommitmentKey(bytes.fromhex(path.read_text(encoding="ascii")))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no commitment key can be read from it") from error
