"""The ledger in use: every transaction first verifies what others appended, then signs and appends its own.

All of it is verified at the first use, and only what is new after that, so a check stays cheap while the
ledger grows. A database that was edited, or rolled back under a running process, ends as ``AuditFailure``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.commitment import DataSeal
from common.privacy.ledger.details import GENESIS, Head
from common.privacy.ledger.entry import Draft, LedgerEntry, Stamp, hour_of, seal_entry
from common.privacy.ledger.history import History
from common.privacy.ledger.keys import SiteKey, create_site_key, load_site_key, public_key_from_hex
from common.privacy.ledger.order import advance
from common.privacy.ledger.rules import header_line, verify_entry
from common.privacy.ledger.store import LedgerStore, Rows

__all__ = ["Ledger", "Page", "open_ledger"]

_RANDOM = 16


def _now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """One site's ledger: a store and the key that signs it. Threads and processes may share the store."""

    def __init__(
        self,
        store: LedgerStore,
        key: SiteKey,
        clock: Callable[[], datetime] = _now,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``clock`` and ``entropy`` are replaced in tests alone."""
        self._store = store
        self._key = key
        self._public = public_key_from_hex(key.public_hex)
        self._clock = clock
        self._entropy = entropy
        self._history = History()
        self._turn = threading.Lock()

    @property
    def public_key(self) -> str:
        """The site's public key in hexadecimal."""
        return self._key.public_hex

    @property
    def name(self) -> str:
        """Where it lies, for messages; without a password."""
        return self._store.name

    @contextmanager
    def writing(self) -> Iterator[Page]:
        """Alone with the ledger's newest state; what is appended is on disk when this ends, or not at all."""
        with self._turn:
            start: Head | None = None
            try:
                with self._store.writing() as rows:
                    self._catch_up(rows)
                    start = self._history.head
                    yield Page(self, rows)
            except BaseException:
                if start != self._history.head:  # it may be ahead of the database: read and verify anew
                    self._history = History()
                raise

    @contextmanager
    def reading(self) -> Iterator[History]:
        """The newest state; read it only within."""
        with self._turn:
            with self._store.reading() as rows:
                self._catch_up(rows)
            yield self._history

    def head(self) -> Head:
        """The last entry's place and hash: what a coordinator witnesses."""
        with self.reading() as history:
            return history.head

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Every entry, verified."""
        with self._turn, self._store.reading() as rows:
            history, found = History(), []
            for line in rows.lines_from(1):
                entry = verify_entry(line, history.head, self._public)
                advance(history, entry)
                found.append(entry)
        return tuple(found)

    def bundle(self) -> bytes:
        """A portable copy of the whole ledger (``common.privacy.ledger.bundle``), verified before it leaves."""
        found = self.entries()
        head = found[-1].head if found else GENESIS
        lines = [header_line(self.public_key, head), *(entry.line() for entry in found)]
        return b"".join(line + b"\n" for line in lines)

    def _catch_up(self, rows: Rows) -> None:
        history = self._history
        known = history.head
        lines = rows.lines_from(max(1, known.sequence))
        if known.sequence:
            if not lines or f'"hash":"{known.hash}"'.encode() not in lines[0]:
                self._history = History()
                what = f"{self.name}: entry {known.sequence} is gone: rolled back while in use"
                raise AuditFailure(what, entry=known.sequence)
            lines = lines[1:]
        try:
            for line in lines:
                advance(history, verify_entry(line, history.head, self._public))
        except AuditFailure as error:
            self._history = History()
            raise AuditFailure(f"{self.name}: {error}", error.check, error.entry) from error

    def _seal(self, draft: Draft, seal: DataSeal | None) -> tuple[LedgerEntry, datetime]:
        now, random = self._clock(), self._entropy(_RANDOM)
        commitment = None if seal is None else seal.commitment(random)
        return seal_entry(draft, self._history.head, Stamp(now, random, commitment), self._key), now


class Page:
    """The ledger within one writing transaction."""

    def __init__(self, ledger: Ledger, rows: Rows) -> None:
        """Made by :meth:`Ledger.writing`."""
        self._ledger = ledger
        self._rows = rows

    @property
    def history(self) -> History:
        """The newest state, with what this transaction appended."""
        return self._ledger._history

    @property
    def hour(self) -> str:
        """The time that an entry appended now would carry."""
        return hour_of(self._ledger._clock())

    def append(self, draft: Draft, seal: DataSeal | None = None) -> LedgerEntry:
        """Sign and append; raises ``AuditFailure`` where no verifier would accept the entry next."""
        entry, now = self._ledger._seal(draft, seal)
        advance(self.history, entry)
        self._rows.append(entry, now)
        return entry


def open_ledger(where: Path | str, key_file: Path) -> Ledger:
    """The ledger at a path or PostgreSQL URL; its key is made where neither existed before.

    A key whose ledger is gone is refused: a second ledger under it would begin at nothing spent (P8). A ledger
    whose key is gone fails verification at its first use: a new key signed none of it.
    """
    is_file = not (isinstance(where, str) and "://" in where)
    if key_file.exists() and is_file and not (Path(where).exists() and Path(where).stat().st_size):
        raise BadInput(f"{where}: the ledger of {key_file} is gone; restore it, or move the key away")
    store = LedgerStore(where)
    key = load_site_key(key_file) if key_file.exists() else create_site_key(key_file)
    return Ledger(store, key)
