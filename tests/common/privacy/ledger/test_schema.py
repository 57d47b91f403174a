"""The schema: migrations lead to the table that the code uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect

from common.errors import BadInput
from common.privacy.ledger.schema import database_url, entries
from common.privacy.ledger.store import LedgerStore


def test_migrations_make_the_table_that_is_used(database: str) -> None:
    store = LedgerStore(database)
    with store._transaction(writing=False) as connection:
        found = {column["name"]: column for column in inspect(connection).get_columns("ledger_entry")}
        indexed = {
            name for index in inspect(connection).get_indexes("ledger_entry") for name in index["column_names"]
        }
    assert set(found) == {column.name for column in entries.columns}
    assert all(found[column.name]["nullable"] is False for column in entries.columns)
    assert "dataset" in indexed


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "site" / "ledger.db"
    LedgerStore(path)
    before = path.read_bytes()
    LedgerStore(path)
    assert path.read_bytes() == before


def test_only_postgresql_is_reached_by_url() -> None:
    assert database_url("postgresql://a@h/b").drivername == "postgresql+psycopg"
    for url in ("mysql://h/b", "nonsense"):
        with pytest.raises(BadInput, match="ledger"):
            database_url(url)
