"""Bids and sellers from TOML: exact money, every fault with its place, and the worked examples end to end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.auction import run_auction
from server.economics.market_files import read_bids, read_sellers
from server.economics.money import cents_of, in_units, rate_of
from server.economics.stackelberg import equilibrium
from tests.server.economics.market_samples import SELLERS, write_bids


@given(st.integers(0, 10**15))
def test_money_survives_writing_and_reading(cents: int) -> None:
    assert cents_of(in_units(cents), "pot") == cents


@pytest.mark.parametrize("text", ["", "-1", "1.234", "1e3", "1,000", "ten", " 1", "\u0661", "1."])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--pot"):
        cents_of(text, "--pot")


def test_a_rate_is_exact() -> None:
    assert rate_of("0.27", "reserve") == Fraction(27)
    assert rate_of("0.000000000001", "reserve") == Fraction(1, 10**10)
    with pytest.raises(BadInput, match=r"such as 0\.27"):
        rate_of("a", "reserve")


def test_the_worked_auction_from_a_file(tmp_path: Path) -> None:
    """ECONOMICS, section 3a, example 1 and 1r."""
    file = read_bids(write_bids(tmp_path / "bids.toml"))
    outcome = run_auction(file.bids(), file.terms())
    assert {award.bid.site: award.cents for award in outcome.awards} == {
        "s1": 15428,
        "s2": 18000,
        "s3": 33517,
        "s4": 30375,
    }
    reserved = read_bids(write_bids(tmp_path / "reserved.toml", 'reserve = "0.20"'))
    outcome = run_auction(reserved.bids(), reserved.terms())
    assert sorted(award.bid.site for award in outcome.awards) == ["s1", "s2", "s4"]
    assert outcome.price == 20


def test_the_worked_posted_prices_from_files(tmp_path: Path) -> None:
    """ECONOMICS, section 3b, examples 1 and 2."""
    for name, (text, expected) in SELLERS.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        file = read_sellers(path)
        assert equilibrium(file.sellers(), file.worth()).price == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('price = "120"', 'price = "a lot"', "bid s0: price = a lot: must be an amount"),
        ('price = "120"', "price = 120", 'must be a text, such as "1200.50"'),
        ("epsilon = 4.0", "epsilon = 0.0", r"epsilon = 0.0: must be greater than 0"),
        ("declared_size = 1000\n", "", "declared_size: is required"),
        ("spread = 1.0", "sprad = 1.0", "did you mean spread"),
        ('budget = "1000"', 'budget = "-5"', "call.budget = -5"),
        ('site = "s0"', 'site = "s1"', "a site bids twice"),
        ("[call]", "[call", "is not valid TOML"),
    ],
)
def test_faults_are_named(tmp_path: Path, old: str, new: str, match: str) -> None:
    path = write_bids(tmp_path / "bids.toml")
    path.write_text(path.read_text().replace(old, new, 1))

    def run() -> None:
        file = read_bids(path)
        run_auction(file.bids(), file.terms())

    with pytest.raises(BadInput, match=match):
        run()


def test_a_seller_without_what_the_gain_needs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sellers.toml"
    path.write_text(SELLERS["log"][0].replace("weight = 3.0", ""))
    with pytest.raises(BadInput, match="seller s0: weight: is required"):
        read_sellers(path).worth()
    with pytest.raises(BadInput, match="cannot be read"):
        read_sellers(tmp_path / "none.toml")
