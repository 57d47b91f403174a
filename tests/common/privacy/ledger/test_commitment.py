"""P4: commitments tell nothing without the key."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from pathlib import Path

import pytest

from common.errors import BadInput
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.commitment import CommitmentKey, DataSeal, create_commitment_key, load_commitment_key
from common.privacy.ledger.store import LedgerStore
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, NOON, PLAN, ROUND, STUDY, fixed_entropy

ROWS = [b"anna,positive", b"ben,negative", b"carl,positive"]
NEIGHBOUR = ROWS[:2]


def bundle(folder: Path, seals: list[DataSeal]) -> list[dict[str, object]]:
    """A ledger with fixed time and randomness: only the data differs. One round for each seal."""
    ledger = Ledger(LedgerStore(folder / "ledger.db"), KEY, lambda: NOON, fixed_entropy())
    PrivacyBudget(ledger, DATA).open(FILTER)
    for number, seal in enumerate(seals, start=1):
        budget = PrivacyBudget(ledger, DATA, seal)
        budget.reserve(StudyUse(STUDY, "r", 1e-5), RoundRequest(number, PLAN, ROUND))
    return [json.loads(line) for line in ledger.bundle().splitlines()[1:]]


def test_p04_bundles_of_neighbouring_datasets_differ_in_keyed_fields_alone(tmp_path: Path) -> None:
    key = CommitmentKey(bytes(range(32)))
    one = bundle(tmp_path / "one", [key.seal(ROWS)] * 2)
    two = bundle(tmp_path / "two", [key.seal(NEIGHBOUR)] * 2)
    derived = {"commitment", "hash", "previous", "signature"}
    assert one[1]["commitment"] != two[1]["commitment"]
    for left, right in zip(one, two, strict=True):
        assert {k: v for k, v in left.items() if k not in derived} == {
            k: v for k, v in right.items() if k not in derived
        }


def test_p04_without_the_key_nothing_in_a_bundle_can_be_computed_from_the_data(tmp_path: Path) -> None:
    """An observer who holds both datasets tries every commitment without a key, or under other keys."""
    written = str(bundle(tmp_path, [CommitmentKey(bytes(range(32))).seal(ROWS)]))
    framed = b"".join(len(row).to_bytes(8, "big") + row for row in ROWS)
    for data in (framed, b"".join(ROWS), b"\n".join(ROWS)):
        assert hashlib.sha256(data).hexdigest() not in written
        for guess in (b"", bytes(32), DATA.encode(), bytes.fromhex(KEY.public_hex)):
            assert hmac.new(guess, data, hashlib.sha256).hexdigest() not in written
    for row in ROWS:
        assert row.decode() not in written


def test_p04_two_sites_with_equal_data_do_not_show_it(tmp_path: Path) -> None:
    one = bundle(tmp_path / "one", [create_commitment_key(tmp_path / "one" / "key").seal(ROWS)])
    two = bundle(tmp_path / "two", [create_commitment_key(tmp_path / "two" / "key").seal(ROWS)])
    assert one[1]["commitment"] != two[1]["commitment"]


def test_p04_whether_the_data_changed_between_entries_does_not_show(tmp_path: Path) -> None:
    key = CommitmentKey(bytes(range(32)))
    same = bundle(tmp_path / "same", [key.seal(ROWS), key.seal(ROWS)])
    grown = bundle(tmp_path / "grown", [key.seal(NEIGHBOUR), key.seal(ROWS)])
    for entries in (same, grown):
        assert entries[1]["commitment"] != entries[2]["commitment"]
    assert same[2]["commitment"] == grown[2]["commitment"]  # with the key, the site can still show it


def test_rows_cannot_run_together() -> None:
    key = CommitmentKey(bytes(32))
    assert key.seal([b"ab", b"c"]).commitment(b"r") != key.seal([b"a", b"bc"]).commitment(b"r")
    assert key.seal([b"a", b""]).commitment(b"r") != key.seal([b"a"]).commitment(b"r")


def test_p22_the_key_is_its_owner_s_alone_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "site" / "commitment.key"
    made = create_commitment_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_commitment_key(path)
    assert loaded.seal(ROWS).commitment(b"r") == made.seal(ROWS).commitment(b"r")
    secret = path.read_text().strip()
    assert secret not in repr(made) + repr(made.seal(ROWS))
    path.chmod(0o604)
    with pytest.raises(BadInput, match="mode 604"):
        load_commitment_key(path)
    path.chmod(0o600)
    path.write_text("zz")
    with pytest.raises(BadInput, match="no commitment key"):
        load_commitment_key(path)
    with pytest.raises(BadInput, match="must be 32"):
        CommitmentKey(b"short")
