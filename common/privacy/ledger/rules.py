"""Verification: bytes become a ``VerifiedLedger`` or an ``AuditFailure``; there is no third way.

The checks, in this order, as ``docs/ledger-format.md`` numbers them:

==  =============================================================================================
1   framing: lines end with LF; the first is the canonical header of this format
2   key: the header names the public key that the verifier was given, out of band
3   form: every other line is the canonical JSON of an entry, each field in its bounds
4   hash: each hash is the SHA-256 of the entry's body
5   signature: each signature is the site's over the hash
6   chain: sequences are 1, 2, 3, ...; each entry names the hash before it, the first 64 zeros
7   end: the header's head is the last entry's
8   order: the rules O1 to O9 of ``common.privacy.ledger.order``
9   completeness: every witnessed head is one of the ledger's, or was mended by a later entry that names it
==  =============================================================================================

What they prove is PRIVACY P1: the recorded history is unaltered and complete against the witnessed heads. A
tail that nobody witnessed can be cut off unseen, and nothing here says that a recorded mechanism is what ran.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.canonical import canonical, parse
from common.privacy.ledger.details import Head
from common.privacy.ledger.entry import FORMAT, LedgerEntry, entry_from_line, signed_bytes
from common.privacy.ledger.heads import missing_heads, restored_for_all
from common.privacy.ledger.history import History
from common.privacy.ledger.keys import public_key_from_hex, signature_is_valid
from common.privacy.ledger.order import advance

__all__ = ["VerifiedLedger", "header_line", "verified_entries", "verify_entry"]

_PROOF = object()


class VerifiedLedger:
    """A ledger that passed every check. Only :func:`verified_entries` makes one."""

    __slots__ = ("_entries", "_history", "_public_key", "_restored")

    def __init__(self, entries: tuple[LedgerEntry, ...], history: History, public_key: str, proof: object) -> None:
        """Not for callers: needs the private proof of this module."""
        if proof is not _PROOF:
            raise TypeError("a VerifiedLedger comes from verified_entries alone")
        self._entries = entries
        self._history = history
        self._public_key = public_key
        self._restored: tuple[Head, ...] = tuple(history.restored)

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The entries in order."""
        return self._entries

    @property
    def history(self) -> History:
        """What they add up to; read it, ``common.privacy.spending`` does."""
        return self._history

    @property
    def head(self) -> Head:
        """The last entry's place and hash."""
        return self._history.head

    @property
    def public_key(self) -> str:
        """The key that signed them."""
        return self._public_key

    @property
    def restored(self) -> tuple[Head, ...]:
        """Heads that the site once had, lost, and made up for (P8). An auditor asks about each."""
        return self._restored

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedLedger cannot be copied or pickled; verify the bundle again")


def verified_entries(bundle: bytes, public_key: str, witnessed: Sequence[Head] = ()) -> VerifiedLedger:
    """Verify a bundle against the site's public key (hexadecimal) and the heads that others witnessed.

    Raises:
        AuditFailure: names the check and the entry at fault. Nothing else is raised, whatever the bytes.
        BadInput: ``public_key`` itself, which is the verifier's own, is malformed.
    """
    key = public_key_from_hex(public_key)
    header, *lines = _lines(bundle)
    head = _header(header, public_key)
    history, entries = History(), []
    for line in lines:
        entry = verify_entry(line, history.head, key)
        try:
            advance(history, entry)
        except AuditFailure as error:
            raise AuditFailure(f"ledger check 8 (order): {error}", 8, error.entry) from error
        entries.append(entry)
    if head != history.head:
        what = f"ledger check 7 (end): header names entry {head.sequence}, not the last one"
        raise AuditFailure(what, 7, head.sequence)
    for missing in missing_heads(history, witnessed):
        if not restored_for_all(history, missing.head):
            what = f"ledger check 9 (completeness): {missing}, and the ledger does not have it"
            raise AuditFailure(what, 9, missing.head.sequence)
    return VerifiedLedger(tuple(entries), history, public_key, _PROOF)


def verify_entry(line: bytes, previous: Head, key: Ed25519PublicKey) -> LedgerEntry:
    """Checks 3 to 6 for the entry that follows ``previous``."""
    place = previous.sequence + 1
    try:
        entry = entry_from_line(line)
    except BadInput as error:
        raise _at(3, "form", place, str(error)) from error
    if hashlib.sha256(entry.body()).hexdigest() != entry.hash:
        raise _at(4, "hash", place, "its hash is another")
    if not signature_is_valid(key, bytes.fromhex(entry.signature), signed_bytes(entry.hash)):
        raise _at(5, "signature", place, "not signed by the site's key")
    if entry.sequence != place:
        raise _at(6, "chain", place, f"numbered {entry.sequence}")
    if entry.previous != previous.hash:
        raise _at(6, "chain", place, "follows another entry")
    return entry


def header_line(public_key: str, head: Head) -> bytes:
    """The first line of a bundle, without the line's end."""
    return canonical({"format": f"{FORMAT} bundle", "public_key": public_key, "head": head.model_dump()})


def _at(check: int, name: str, place: int, what: str) -> AuditFailure:
    return AuditFailure(f"ledger check {check} ({name}): entry {place}: {what}", check, place)


def _lines(bundle: bytes) -> list[bytes]:
    if not bundle.endswith(b"\n"):
        raise AuditFailure("ledger check 1 (framing): the bundle is empty or its last line has no end", 1)
    return bundle[:-1].split(b"\n")


def _header(line: bytes, public_key: str) -> Head:
    try:
        data = parse(line)
    except BadInput as error:
        raise AuditFailure(f"ledger check 1 (framing): header: {error}", 1) from error
    if not isinstance(data, dict) or set(data) != {"format", "public_key", "head"}:
        raise AuditFailure("ledger check 1 (framing): the first line is no header", 1)
    if data["format"] != f"{FORMAT} bundle":
        raise AuditFailure(f"ledger check 1 (framing): header: must be of format {FORMAT} bundle", 1)
    if data["public_key"] != public_key:
        raise AuditFailure("ledger check 2 (key): the bundle is another site's, or of another key", 2)
    try:
        return Head.model_validate(data["head"])
    except ValueError as error:
        raise AuditFailure("ledger check 1 (framing): header: head is malformed", 1) from error
