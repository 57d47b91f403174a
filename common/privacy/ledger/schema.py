"""The ledger's table, and how a database is opened so that a commit is durable and writers take turns.

SQLite keeps a write-ahead log and syncs it at every commit (``synchronous = FULL``); a writer begins with
``BEGIN IMMEDIATE`` (sqlite.org/lang_transaction.html). PostgreSQL writers hold one advisory lock until their
transaction ends. WAL needs shared memory: a SQLite ledger must lie on a local file system.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy import URL, BigInteger, Column, MetaData, String, Table, Text, create_engine, event, inspect, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from common.errors import BadInput

__all__ = ["REVISION", "WAIT_SECONDS", "database_url", "entries", "lock_for_writing", "open_engine", "upgrade"]

REVISION = "0001"
"""The newest schema; Alembic brings older ones up to it."""

WAIT_SECONDS = 60
"""How long a writer waits for the others."""

_LOCK = 0x48616E7365  # "Hanse"
_VERSION_TABLE = "ledger_version"
_MIGRATIONS = Path(__file__).parent / "migrations"

entries = Table(
    "ledger_entry",
    MetaData(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("previous", String(64), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("dataset", String(100), nullable=False, index=True),
    Column("line", Text, nullable=False),
    Column("recorded_at", String(40), nullable=False),
)
"""One row an entry. ``line`` is what a bundle holds; ``recorded_at``, the exact local time, is never exported."""


def database_url(where: str) -> URL:
    """The URL of a PostgreSQL database, with the driver that Hanse uses; raises ``BadInput`` for others."""
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise BadInput("ledger: the database's URL cannot be read; try postgresql://user@host/name") from error
    if url.get_backend_name() != "postgresql":
        raise BadInput(f"ledger: a {url.get_backend_name()} database: must be PostgreSQL, or a file for SQLite")
    return url.set(drivername="postgresql+psycopg")


def open_engine(where: Path | URL) -> Engine:
    """An engine without a pool: no connection outlives its transaction, or is shared across a fork."""
    if isinstance(where, URL):
        try:
            return create_engine(where, poolclass=NullPool)
        except (ImportError, NoSuchModuleError) as error:
            raise BadInput("ledger: PostgreSQL needs psycopg; install hanse[postgres]") from error
    url = URL.create("sqlite", database=str(where))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": WAIT_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def lock_for_writing(connection: Connection) -> None:
    """Wait until no other writer is at work; SQLite has done so at ``BEGIN IMMEDIATE``."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
        connection.execute(text("SET LOCAL synchronous_commit = on"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def upgrade(connection: Connection) -> None:
    """Bring the schema up to ``REVISION`` within the connection's transaction; refuse a newer one."""
    current = None
    if inspect(connection).has_table(_VERSION_TABLE):
        current = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()
    if current == REVISION:
        return
    if current is not None and not any((_MIGRATIONS / "versions").glob(f"v{current}_*.py")):
        raise BadInput(f"ledger: its schema is {current}, newer than this version of Hanse; update Hanse")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = _VERSION_TABLE
    command.upgrade(config, REVISION)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode")
    row = cursor.fetchone()
    if row is None or row[0] != "wal":
        # Changing the mode does not wait; where another process is changing it too, one of them succeeds.
        with contextlib.suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
