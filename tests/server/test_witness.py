"""What a coordinator remembers of the sites' ledgers over its runs, and says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import create_site_key
from common.wire import SiteDescription
from server.witness import CoordinatorWitness

RUN = "ab" * 16
FIRST, SECOND = Head(sequence=3, hash="aa" * 32), Head(sequence=5, hash="bb" * 32)


def site(name: str, nonce: str = "01" * 16) -> SiteDescription:
    return SiteDescription(name, 0, 100, 100.0, 8.0, 1e-5, 1.0, nonce=nonce)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "coordinator"
    create_site_key(folder / "witness.key")
    return folder


def test_p08_the_newest_head_is_told_after_a_restart_and_in_another_run(folder: Path) -> None:
    first = CoordinatorWitness(folder, {1: "north"}, RUN)
    assert first.receipts({1: site("north")})[1].opened().head is None
    first.note(1, {"north": FIRST})
    first.note(2, {"north": SECOND})
    again = CoordinatorWitness(folder, {1: "north"}, "cd" * 16)
    said = again.receipts({1: site("north")})[1].opened()
    assert (said.head, said.run, said.site, said.nonce) == (SECOND, "cd" * 16, "north", "01" * 16)


def test_p08_each_site_is_told_its_own_head_alone(folder: Path) -> None:
    witness = CoordinatorWitness(folder, {1: "north", 2: "south"}, RUN)
    witness.note(1, {"north": FIRST, "south": SECOND})
    told = witness.receipts({1: site("north"), 2: site("south")})
    assert [told[node].opened().head for node in (1, 2)] == [FIRST, SECOND]


def test_a_line_that_a_crash_cut_short_is_left_out(folder: Path) -> None:
    witness = CoordinatorWitness(folder, {1: "north"}, RUN)
    witness.note(1, {"north": FIRST})
    with (folder / "witness.jsonl").open("a") as stream:
        stream.write('{"run": "abab", "round": 2, "heads": {"nor')
    again = CoordinatorWitness(folder, {1: "north"}, RUN)
    assert again.receipts({1: site("north")})[1].opened().head == FIRST
    again.note(2, {"north": SECOND})
    once_more = CoordinatorWitness(folder, {1: "north"}, RUN)
    assert once_more.receipts({1: site("north")})[1].opened().head == SECOND


def test_p08_a_site_cannot_speak_in_anothers_name(folder: Path) -> None:
    witness = CoordinatorWitness(folder, {1: "north", 2: "south"}, RUN)
    witness.check_names({1: site("north"), 2: site("south")})
    with pytest.raises(BadInput, match='site "south": its node is registered as north'):
        witness.check_names({1: site("south")})


def test_a_site_without_a_guard_wants_no_receipt(folder: Path) -> None:
    assert CoordinatorWitness(folder, {1: "north"}, RUN).receipts({1: site("north", nonce="")}) == {}
