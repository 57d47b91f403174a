"""The `--key` of commands that verify: a site's public key, typed or in a file."""

from __future__ import annotations

from pathlib import Path

from common.errors import BadInput
from common.privacy.ledger.keys import public_key_from_hex

__all__ = ["public_key_of"]

_LARGEST_FILE = 100
"""Bytes of a key file that are read."""


def public_key_of(given: str, text: str) -> str:
    """The key that ``text`` is in hexadecimal, or that the file of that name holds.

    Raises:
        BadInput: it is neither; ``given`` is the option's whole value.
    """
    path = Path(text)
    if path.is_file():
        text = path.read_bytes()[:_LARGEST_FILE].decode("ascii", "replace").strip()
    try:
        public_key_from_hex(text)
    except BadInput as error:
        raise BadInput(f"--key {given}: must be 64 lower-case hexadecimal digits, or a file of them") from error
    return text
