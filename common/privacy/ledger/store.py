"""Where entries lie: SQLite by default, PostgreSQL by URL for a site with many workers.

The store knows rows, transactions and errors, and no rule. Whatever the database says ends as a ``HanseError``
in one line, before anything was reserved: an entry is committed, or the caller hears that it is not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from common.errors import BadInput, HanseError, RunFailed
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.ledger.keys import check_private, private_folder
from common.privacy.ledger.schema import database_url, entries, lock_for_writing, open_engine, upgrade

__all__ = ["LedgerStore", "Rows"]

_PROBE = b"\0" * 65536
"""More than one reservation writes."""

_MEANINGS = (
    (("disk is full", "no space left"), "the disk is full; free space"),
    (("readonly", "read-only"), "it can only be read; make it writable"),
    (("locked", "lock timeout"), "another process holds it; try again"),
    (("only grows",), "a ledger only grows; nothing was changed"),
    (
        ("not a database", "malformed"),
        "it is no ledger, or it is damaged; restore a backup",
    ),
)


class Rows:
    """The table within one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work on an open transaction."""
        self._connection = connection

    def lines_from(self, sequence: int) -> list[bytes]:
        """Lines of the entries from ``sequence`` on, in order."""
        query = select(entries.c.line).where(entries.c.sequence >= sequence).order_by(entries.c.sequence)
        return [str(line).encode("utf-8") for line in self._connection.execute(query).scalars()]

    def append(self, entry: LedgerEntry, recorded_at: datetime) -> None:
        """Add a row; unique columns refuse a second entry at the same place or after the same entry."""
        row = {
            "sequence": entry.sequence,
            "hash": entry.hash,
            "previous": entry.previous,
            "kind": str(entry.kind),
            "dataset": entry.dataset,
            "line": entry.line().decode("utf-8"),
            "recorded_at": recorded_at.isoformat(),
        }
        self._connection.execute(insert(entries), row)


class LedgerStore:
    """A ledger's database: a file's path for SQLite, or the URL of a PostgreSQL database.

    Opening it makes folder (0700) and file (0600), proves that they can be written to, and brings the schema
    up to date. A folder or file that others may read is refused (PRIVACY P22).
    """

    def __init__(self, where: Path | str) -> None:
        """Open or create; raises ``BadInput`` or ``RunFailed`` before anything else happens."""
        if isinstance(where, str) and "://" in where:
            url = database_url(where)
            self.name = url.render_as_string(hide_password=True)
            self._engine = open_engine(url)
        else:
            path = Path(where).absolute()
            self.name = str(path)
            _prepare_file(path)
            self._engine = open_engine(path)
        with self._transaction(writing=True) as connection:
            upgrade(connection)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """A transaction that no other writer overlaps; committed to disk at the end, or not at all."""
        with self._transaction(writing=True) as connection:
            yield Rows(connection)

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """A transaction that sees one state and changes nothing."""
        with self._transaction(writing=False) as connection:
            yield Rows(connection)

    @contextmanager
    def _transaction(self, writing: bool) -> Iterator[Connection]:
        engine = self._engine.execution_options(writing=writing)
        try:
            with engine.begin() as connection:
                if writing:
                    lock_for_writing(connection)
                yield connection
        except IntegrityError as error:
            raise RunFailed(f"{self.name}: another process wrote the same entry; try again") from error
        except SQLAlchemyError as error:
            raise _told(self.name, error) from error


def _told(name: str, error: SQLAlchemyError) -> HanseError:
    said = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
    for signs, meaning in _MEANINGS:
        if any(sign in said.lower() for sign in signs):
            return RunFailed(f"{name}: {meaning}. Nothing was recorded")
    return RunFailed(f"{name}: the ledger's database failed ({said.splitlines()[0]}). Nothing was recorded")


def _prepare_file(path: Path) -> None:
    private_folder(path.parent)
    _prove_writable(path.parent)
    if path.exists():
        check_private(path)
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise BadInput(f"{path}: cannot be made ({error.strerror}). Nothing was recorded") from error


def _prove_writable(folder: Path) -> None:
    """Write and sync more bytes than an entry takes: a full disk or a read-only folder shows here."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as stream:
            stream.write(_PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        mend = "free space, or make it writable"
        raise RunFailed(f"{folder}: cannot be written ({error.strerror}); {mend}. Nothing was recorded") from error
