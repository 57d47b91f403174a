"""A guard's coordinators: whose receipt counts, for which start, and what it leads to (PRIVACY P8)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.witnesses import Witnesses
from common.errors import BadInput, PolicyRefusal
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import SiteKey
from common.privacy.ledger.receipt import Receipt, SignedReceipt, sign_receipt

KEY = SiteKey.from_seed(bytes(range(32)))
RUN = "ab" * 16
HEAD = Head(sequence=7, hash="cd" * 32)


@pytest.fixture
def witnesses(tmp_path: Path) -> Witnesses:
    return Witnesses({KEY.public_hex: "trial"}, tmp_path / "receipts.jsonl")


def receipt(witnesses: Witnesses, key: SiteKey = KEY, **changes: object) -> SignedReceipt:
    said = {"site": "north", "run": RUN, "nonce": witnesses.nonce, "head": HEAD} | changes
    return sign_receipt(key, Receipt.model_validate(said))


def test_p08_a_receipt_names_its_coordinator_and_is_kept_once(witnesses: Witnesses, tmp_path: Path) -> None:
    for _ in range(2):
        assert witnesses.take(receipt(witnesses), "north", RUN) == KEY.public_hex
    assert witnesses.heads == {KEY.public_hex: HEAD}
    lines = (tmp_path / "receipts.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert SignedReceipt(**json.loads(lines[0])).opened().head == HEAD


def test_p08_a_coordinator_that_never_saw_a_head_counts_as_asked(witnesses: Witnesses) -> None:
    witnesses.take(receipt(witnesses, head=None), "north", RUN)
    assert witnesses.heads == {KEY.public_hex: None}


def test_p08_without_a_receipt_nothing_goes_on(witnesses: Witnesses) -> None:
    with pytest.raises(PolicyRefusal, match="the request carries none"):
        witnesses.take(None, "north", RUN)


def test_p08_a_stranger_is_no_witness(witnesses: Witnesses) -> None:
    stranger = SiteKey.from_seed(bytes(32))
    with pytest.raises(PolicyRefusal, match="whose federation this site has not joined"):
        witnesses.take(receipt(witnesses, stranger), "north", RUN)


@pytest.mark.parametrize("change", [{"site": "south"}, {"run": "ef" * 16}, {"nonce": "00" * 16}])
def test_p08_a_receipt_for_another_site_run_or_start_is_refused(
    witnesses: Witnesses, change: dict[str, str]
) -> None:
    with pytest.raises(PolicyRefusal, match=f"receipt: {next(iter(change))}"):
        witnesses.take(receipt(witnesses, **change), "north", RUN)
    assert witnesses.heads == {}


def test_p08_each_start_draws_its_own_nonce(tmp_path: Path) -> None:
    """An old receipt, as a relay may have kept one, is none for a new start."""
    before, after = (Witnesses({KEY.public_hex: "trial"}, tmp_path / "receipts.jsonl") for _ in range(2))
    with pytest.raises(PolicyRefusal, match="nonce"):
        after.take(receipt(before), "north", RUN)


def test_p08_a_forged_receipt_is_refused(witnesses: Witnesses) -> None:
    forged = receipt(witnesses).model_copy(update={"signature": "0" * 128})
    with pytest.raises(BadInput, match="signature"):
        witnesses.take(forged, "north", RUN)


def test_a_guard_without_coordinators_asks_for_no_receipt(tmp_path: Path) -> None:
    assert Witnesses({}, tmp_path / "receipts.jsonl").take(None, "north", RUN) == ""
    assert not (tmp_path / "receipts.jsonl").exists()
