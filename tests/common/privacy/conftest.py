"""Databases for ledgers: SQLite always, PostgreSQL where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.common.privacy import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server for the whole session."""
    if (why := postgres.missing()) is not None:
        if os.environ.get("HANSE_TEST_POSTGRES_REQUIRED"):
            pytest.fail(why)
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new ledger may lie."""
    if request.param == "sqlite":
        yield str(tmp_path / "site" / "ledger.db")
        return
    with postgres.fresh_database(request.getfixturevalue("postgres_server")) as url:
        yield url
