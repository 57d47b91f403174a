"""A pot among a run's sites: to the cent, with a statement for each, and silent under central DP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import BadInput
from common.privacy.ledger.keys import SiteKey
from server.economics.payout import Pot, RunToPay, shares_of, statements_of, write_statements
from server.economics.rewards import WHOLE_MODEL, Limits, Policy
from server.economics.statements import statement_from_json

KEY = SiteKey.from_seed(b"\x03" * 32)
VALUES = {"a": 0.031, "b": 0.052, "c": 0.0087, "d": 0.118, "e": -0.0142}
RUN = RunToPay(
    study="0" * 64,
    run="1" * 32,
    sizes=dict.fromkeys(VALUES, 100),
    central=False,
    contribution={
        "method": "Shapley value, exact",
        "sites": [{"site": site, "value": value, "value_half_width": None} for site, value in VALUES.items()],
    },
)
POT = Pot(1_000_000, "EUR", Policy.SHAPLEY, {}, {})


def paid(pot: Pot, run: RunToPay = RUN) -> dict[str, int]:
    """Cents by site."""
    return {each.site: each.payout_cents for each in statements_of(run, pot)}


def test_the_worked_pot() -> None:
    """ECONOMICS, section 2."""
    assert paid(POT) == {"a": 147830, "b": 247973, "c": 41488, "d": 562709, "e": 0}
    limits = {site: Limits(0 if site == "e" else 50_000, 400_000) for site in VALUES}
    assert paid(replace(POT, limits=limits)) == {"a": 202835, "b": 340240, "c": 56925, "d": 400000, "e": 0}
    assert set(paid(replace(POT, policy=Policy.EQUAL)).values()) == {200_000}


def test_statements_sum_to_the_pot_and_verify(tmp_path: Path) -> None:
    statements = statements_of(RUN, replace(POT, auction={"b": 500}))
    assert sum(each.payout_cents for each in statements) + statements[0].kept_cents == POT.cents
    assert sum(each.ownership_millionths for each in statements) == WHOLE_MODEL
    folders = write_statements(statements, KEY, tmp_path / "payouts")
    for folder, statement in zip(folders, statements, strict=True):
        text = (folder / "statement.json").read_text()
        assert statement_from_json(text, KEY.public_hex).statement == statement
        assert {path.name for path in folder.iterdir()} == {
            f"statement.{kind}" for kind in ("json", "csv", "html")
        }
        others = {site for site in VALUES if site != statement.site}
        assert not any(f'"site": "{site}"' in text for site in others)
    with pytest.raises(BadInput, match="is not empty"):
        write_statements(statements, KEY, tmp_path / "payouts")


def test_names_that_are_no_folder_are_numbered(tmp_path: Path) -> None:
    sizes = {"../up": 1, ".hidden": 1, "plain": 1}
    run = replace(RUN, sizes=sizes, contribution=None)
    folders = write_statements(statements_of(run, replace(POT, policy=Policy.SIZE)), KEY, tmp_path / "out")
    assert {folder.parent for folder in folders} == {tmp_path / "out"}
    assert sorted(folder.name for folder in folders) == ["plain", "site-1", "site-2"]


def test_p19_under_central_privacy_no_contribution_leaves_the_coordinator() -> None:
    central = replace(RUN, central=True)
    with pytest.raises(BadInput, match="contributions stay with the coordinator"):
        statements_of(central, POT)
    for policy in (Policy.EQUAL, Policy.SIZE):
        assert all(
            each.contribution is None and each.method == "not stated"
            for each in statements_of(central, replace(POT, policy=policy))
        )


def test_what_cannot_be_paid_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no contribution\.json"):
        shares_of(replace(RUN, contribution=None), Policy.SHAPLEY, 100)
    with pytest.raises(BadInput, match="zz: no site of this run"):
        statements_of(RUN, replace(POT, auction={"zz": 1}))
