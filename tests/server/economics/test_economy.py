"""The simulated economy: deterministic, within every budget, and feedback that finds out what sites bring."""

from __future__ import annotations

import statistics

import pytest

from common.errors import BadInput
from server.economics.economy import Economy, simulate_economy, summary


@pytest.mark.parametrize("seed", range(6))
def test_money_is_conserved_and_no_budget_is_passed(seed: int) -> None:
    economy = Economy(seed=seed, entry=0.5)
    funds = economy.funds_cents
    for each in simulate_economy(economy):
        paid, bonus = sum(each.payments.values()), sum(each.bonuses.values())
        assert paid <= min(economy.budget_cents, funds)
        assert bonus <= economy.bonus * each.revenue
        funds += each.revenue - paid - bonus
        assert each.funds == funds >= 0
        assert all(surplus >= 0 for surplus in each.surplus.values())
        assert set(each.contributions) == set(each.winners) == set(each.payments)
        if not each.winners:
            assert each.score == economy.base


def test_the_same_economy_gives_the_same_periods() -> None:
    assert simulate_economy(Economy(seed=3)) == simulate_economy(Economy(seed=3))
    assert simulate_economy(Economy(seed=3)) != simulate_economy(Economy(seed=4))


def test_sites_come_and_go() -> None:
    total = summary(simulate_economy(Economy(seed=1, periods=24, entry=0.6)))
    assert total["entered"] >= 10
    assert total["left"] >= 3
    closed = summary(simulate_economy(Economy(seed=1, periods=20, entry=0.0)))
    assert closed["entered"] == 0


def test_feedback_buys_more_for_its_money() -> None:
    """Over six economies: gap closed for a cent paid, with and without what contributions tell."""

    def gain(feedback: bool, seed: int) -> float:
        found = simulate_economy(Economy(seed=seed, periods=24, entry=0.6, feedback=feedback))
        late = found[len(found) // 2 :]
        return sum(each.score - 0.5 for each in late) / max(1, sum(sum(each.payments.values()) for each in late))

    ratios = [gain(True, seed) / gain(False, seed) for seed in range(6)]
    assert statistics.fmean(ratios) > 1


def test_numbers_out_of_range_are_refused() -> None:
    for wrong in ({"periods": 0}, {"entry": 1.5}, {"bonus": -0.1}, {"base": 0.95}, {"budget_cents": 0}):
        with pytest.raises(BadInput, match="economy"):
            Economy(**wrong)  # type: ignore[arg-type]  # some are floats
