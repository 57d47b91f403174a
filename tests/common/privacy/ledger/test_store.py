"""The store: durable, append-only, private, and clear about every failure."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from common.errors import BadInput, HanseError, RunFailed
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.schema import REVISION
from common.privacy.ledger.store import LedgerStore
from tests.common.privacy.ledger.samples import (
    DATA,
    FILTER,
    KEY,
    NOON,
    PLAN,
    ROUND,
    STORY,
    STUDY,
    chained,
    site_ledger,
)

ENTRIES = chained(STORY)


def test_rows_are_kept_in_order(database: str) -> None:
    store = LedgerStore(database)
    with store.writing() as rows:
        for entry in ENTRIES:
            rows.append(entry, NOON)
    with LedgerStore(database).reading() as rows:
        assert rows.lines_from(1) == [entry.line() for entry in ENTRIES]
        assert rows.lines_from(5) == [entry.line() for entry in ENTRIES[4:]]


def test_a_failed_transaction_leaves_nothing(database: str) -> None:
    store = LedgerStore(database)

    def append_and_fail() -> None:
        with store.writing() as rows:
            rows.append(ENTRIES[0], NOON)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        append_and_fail()
    with store.reading() as rows:
        assert rows.lines_from(1) == []


def test_a_place_is_taken_once(database: str) -> None:
    store = LedgerStore(database)
    with store.writing() as rows:
        rows.append(ENTRIES[0], NOON)
    with pytest.raises(RunFailed, match="another process wrote"), store.writing() as rows:
        rows.append(ENTRIES[0], NOON)


@pytest.mark.parametrize("command", ["UPDATE ledger_entry SET kind = 'open'", "DELETE FROM ledger_entry"])
def test_the_table_only_grows(database: str, command: str) -> None:
    with LedgerStore(database).writing() as rows:
        rows.append(ENTRIES[0], NOON)
    url = make_url(database).set(drivername="postgresql+psycopg") if "://" in database else f"sqlite:///{database}"
    engine = create_engine(url)
    with pytest.raises(Exception, match="only grows"), engine.begin() as connection:
        connection.execute(text(command))
    engine.dispose()


def test_p17_the_exact_time_stays_in_the_database(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    PrivacyBudget(ledger, DATA).open(FILTER)
    row = (
        sqlite3.connect(tmp_path / "site" / "ledger.db").execute("SELECT recorded_at FROM ledger_entry").fetchone()
    )
    assert row[0] not in ledger.bundle().decode()
    assert len(row[0]) > len("2026-11-24T12:34:56")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_p22_every_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "site" / "ledger.db")
    with store.writing() as rows:
        rows.append(ENTRIES[0], NOON)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "site").iterdir()}
    assert set(modes) == {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o700
    (tmp_path / "site" / "ledger.db").chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        LedgerStore(tmp_path / "site" / "ledger.db")
    (tmp_path / "site").chmod(0o750)
    with pytest.raises(BadInput, match="chmod 700"):
        LedgerStore(tmp_path / "site" / "ledger.db")


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "site" / "ledger.db")
    with store._transaction(writing=False) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


def test_a_schema_from_the_future_is_refused(database: str) -> None:
    store = LedgerStore(database)
    with store._transaction(writing=True) as connection:
        assert connection.execute(text("SELECT version_num FROM ledger_version")).scalar() == REVISION
        connection.execute(text("UPDATE ledger_version SET version_num = '9999'"))
    with pytest.raises(BadInput, match="newer than this version"):
        LedgerStore(database)


def test_a_full_disk_refuses_before_anything_happens(tmp_path: Path) -> None:
    """SQLITE_FULL, by the limit of pages that SQLite offers for it."""
    from sqlalchemy import event

    ledger = site_ledger(tmp_path)
    budget = PrivacyBudget(ledger, DATA)
    budget.open(FILTER)
    engine = ledger._store._engine
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))

    def reserve_many() -> None:
        for number in range(1, 60):
            budget.reserve(StudyUse(STUDY, "r", 1e-5), RoundRequest(number, PLAN, type(ROUND)(0.001, 5.0, 1)))

    with pytest.raises(RunFailed, match=r"the disk is full; free space\. Nothing was recorded"):
        reserve_many()
    fresh = PrivacyBudget(site_ledger(tmp_path), DATA)
    assert len(fresh.ledger.entries()) == len(ledger.entries()) >= 1


CHILD = """
import resource, sys
from pathlib import Path
from common.errors import HanseError
from common.privacy.ledger.store import LedgerStore
if sys.argv[2] == "full":
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    LedgerStore(Path(sys.argv[1]))
except HanseError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits and users are POSIX")
def test_a_disk_that_takes_no_more_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir(mode=0o700)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "site" / "ledger.db"), "full"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "cannot be written (File too large); free space" in ended.stdout
    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_a_read_only_folder_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    folder.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere: let the system say what it says to others
        import errno

        from common.privacy.ledger import store

        def refuse(**_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(store.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(RunFailed, match=r"cannot be written .*make it writable\. Nothing was recorded"):
        LedgerStore(folder / "ledger.db")
    assert list(folder.iterdir()) == []


def test_a_database_that_became_read_only_refuses(tmp_path: Path) -> None:
    from sqlalchemy import event

    ledger = site_ledger(tmp_path)
    event.listen(
        ledger._store._engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = 1")
    )
    with pytest.raises(RunFailed, match="it can only be read"):
        PrivacyBudget(ledger, DATA).open(FILTER)


@pytest.mark.parametrize("data", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "site" / "ledger.db"
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(HanseError, match="no ledger, or it is damaged"):
        LedgerStore(path)


def test_other_databases_are_refused_and_passwords_are_not_shown() -> None:
    with pytest.raises(BadInput, match="mysql database: must be PostgreSQL"):
        LedgerStore("mysql://host/x")
    with pytest.raises(HanseError) as refused:
        LedgerStore("postgresql://someone:secret@127.0.0.1:1/none")
    assert "secret" not in str(refused.value)


def test_the_ledger_works_on_either_database(database: str) -> None:
    budget = PrivacyBudget(Ledger(LedgerStore(database), KEY), DATA)
    budget.open(FILTER)
    budget.settle(budget.reserve(StudyUse(STUDY, "r", 1e-5), RoundRequest(1, PLAN, ROUND)), "completed")
    again = PrivacyBudget(Ledger(LedgerStore(database), KEY), DATA)
    assert again.spending() == budget.spending()
