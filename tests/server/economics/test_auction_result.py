"""What an auction leaves: a plan that is a study's, payments that verify, bids that stay sealed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.keys import SiteKey
from common.study_file import parse_study
from server.economics.auction import Call, run_auction
from server.economics.auction_result import opening_matches, payments_from, plan_fragment, write_auction
from server.economics.market_files import BidsFile, read_bids
from tests.server.economics.market_samples import write_bids

KEY = SiteKey.from_seed(b"\x01" * 32)
STUDY = '[study]\nname = "bought"\n[task]\nlabels = ["a", "b"]\n[data]\nsites = 4\n'


@pytest.fixture
def file(tmp_path: Path) -> BidsFile:
    """The worked example."""
    return read_bids(write_bids(tmp_path / "bids.toml"))


def test_the_plan_is_a_part_of_a_study_and_its_weights_sum_to_one(file: BidsFile) -> None:
    study = parse_study(STUDY + plan_fragment(run_auction(file.bids(), file.terms())), "bought")
    assert {site.name: site.epsilon for site in study.site} == {"s1": 2.0, "s2": 1.0, "s3": 8.0, "s4": 2.0}
    assert sum(site.weight or 0.0 for site in study.site) == pytest.approx(1.0)
    assert plan_fragment(run_auction(file.bids(), Call(0))) == ""


def test_payments_verify_and_nothing_tells_a_bid(file: BidsFile, tmp_path: Path) -> None:
    plan, payments, opening = write_auction(file, run_auction(file.bids(), file.terms()), KEY, tmp_path / "out")
    assert payments_from(payments, KEY.public_hex) == {"s1": 15428, "s2": 18000, "s3": 33517, "s4": 30375}
    for published in (plan, payments):
        text = published.read_text()
        assert "s0" not in text
        assert "s5" not in text
        assert not {"9000", "13000", "26000", "21000", "nonce"} & set(json.dumps(text).replace('"', " ").split())
    assert opening.stat().st_mode & 0o077 == 0
    assert opening_matches(opening, payments, KEY.public_hex)
    told = json.loads(opening.read_text())
    told["bids"][0]["price"] = "121"
    opening.chmod(0o600)
    opening.write_text(json.dumps(told))
    assert not opening_matches(opening, payments, KEY.public_hex)


def test_two_auctions_of_the_same_bids_commit_differently(file: BidsFile, tmp_path: Path) -> None:
    outcome = run_auction(file.bids(), file.terms())
    found = {
        json.loads(write_auction(file, outcome, KEY, tmp_path / name)[1].read_text())["body"]["bids_commitment"]
        for name in ("one", "two")
    }
    assert len(found) == 2


def test_changed_payments_and_other_keys_are_refused(file: BidsFile, tmp_path: Path) -> None:
    _, payments, _ = write_auction(file, run_auction(file.bids(), file.terms()), KEY, tmp_path / "out")
    with pytest.raises(AuditFailure, match="not by the key given"):
        payments_from(payments, SiteKey.from_seed(b"\x02" * 32).public_hex)
    payments.write_text(payments.read_text().replace("15428", "99999"))
    with pytest.raises(AuditFailure, match="not the key's over these values"):
        payments_from(payments, KEY.public_hex)
    with pytest.raises(BadInput, match="cannot be read"):
        payments_from(tmp_path / "none.json", KEY.public_hex)
    with pytest.raises(BadInput, match="holds an auction already"):
        write_auction(file, run_auction(file.bids(), file.terms()), KEY, tmp_path / "out")
