"""The ledger in use: what others wrote is verified, and a rollback under it is seen."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.book import Ledger, open_ledger
from common.privacy.ledger.details import GENESIS
from common.privacy.ledger.rules import verified_entries
from common.privacy.ledger.store import LedgerStore
from tests.common.privacy.ledger.samples import KEY, NOON, OTHER_KEY, STORY, opened, reserved, site_ledger


def written(ledger: Ledger, *drafts: object) -> None:
    for draft in drafts:
        with ledger.writing() as page:
            page.append(draft)  # type: ignore[arg-type]


def test_two_processes_see_what_the_other_wrote(tmp_path: Path) -> None:
    one, two = site_ledger(tmp_path), site_ledger(tmp_path)
    written(one, *STORY[:3])
    written(two, *STORY[3:])
    assert one.head() == two.head()
    assert one.bundle() == two.bundle()
    assert verified_entries(one.bundle(), KEY.public_hex).head == one.head()


def test_an_illegal_entry_is_never_written(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    written(ledger, opened(), reserved(1))
    with pytest.raises(AuditFailure, match="O5"):
        written(ledger, reserved(1))

    def write_two() -> None:
        with ledger.writing() as page:
            page.append(reserved(2))
            page.append(reserved(2))

    with pytest.raises(AuditFailure, match="O5"):
        write_two()
    assert ledger.head().sequence == 2
    written(ledger, reserved(2))


def test_p08_a_rollback_under_a_running_process_is_seen(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    written(ledger, opened())
    shutil.copytree(tmp_path / "site", tmp_path / "backup")
    written(ledger, reserved(1))
    shutil.rmtree(tmp_path / "site")
    shutil.copytree(tmp_path / "backup", tmp_path / "site")
    with pytest.raises(AuditFailure, match="rolled back while in use"):
        written(ledger, reserved(2))


def _edit(path: Path, command: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER ledger_entry_no_UPDATE")
    connection.execute("DROP TRIGGER ledger_entry_no_DELETE")
    connection.execute(command)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("UPDATE ledger_entry SET line = replace(line, 'steps\":50', 'steps\":10') WHERE sequence = 2", "check 4"),
        ("DELETE FROM ledger_entry WHERE sequence = 3", "check 6"),
        ("UPDATE ledger_entry SET line = 'x' WHERE sequence = 6", "check 3"),
    ],
)
def test_a_database_edited_by_hand_is_refused(tmp_path: Path, command: str, said: str) -> None:
    written(site_ledger(tmp_path), *STORY)
    _edit(tmp_path / "site" / "ledger.db", command)
    for use in (lambda ledger: written(ledger, opened()), Ledger.head, Ledger.bundle):
        with pytest.raises(AuditFailure, match=said):
            use(site_ledger(tmp_path))


def test_another_key_s_ledger_is_refused(tmp_path: Path) -> None:
    written(site_ledger(tmp_path), opened())
    with pytest.raises(AuditFailure, match="check 5"):
        written(site_ledger(tmp_path, OTHER_KEY), opened())


def test_p08_a_key_whose_ledger_is_gone_opens_no_second_one(tmp_path: Path) -> None:
    path, key = tmp_path / "site" / "ledger.db", tmp_path / "site" / "site.pem"
    ledger = open_ledger(path, key)
    assert open_ledger(path, key).public_key == ledger.public_key
    assert ledger.head() == GENESIS
    path.unlink()
    with pytest.raises(BadInput, match="is gone; restore it"):
        open_ledger(path, key)


def test_p17_exported_times_are_whole_hours(tmp_path: Path) -> None:
    ledger = Ledger(LedgerStore(tmp_path / "site" / "ledger.db"), KEY, clock=lambda: NOON)
    written(ledger, opened())
    assert [entry.time for entry in ledger.entries()] == ["2026-11-24T12:00:00Z"]
    assert b"12:34" not in ledger.bundle()


def test_every_entry_has_fresh_randomness(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    written(ledger, *STORY)
    assert len({entry.random for entry in ledger.entries()}) == len(STORY)


def test_threads_take_turns(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    threads = [threading.Thread(target=written, args=(ledger, opened(), opened())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.head().sequence == 12
