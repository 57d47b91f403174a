"""Sites of a round: by lot, or by upper confidence bounds on what their updates did."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.economics.site_bandit import AskedRound, best_sites, drawn_sites, round_rewards

SITES = tuple(f"site-{i}" for i in range(8))
PRICES = dict.fromkeys(SITES, 8.0)


@given(st.integers(1, 8), st.integers(0, 1000), st.integers(1, 1000))
def test_a_lot_draws_as_many_as_asked_the_same_for_the_same_round(count: int, seed: int, number: int) -> None:
    chosen = drawn_sites(SITES, count, seed, number)
    assert len(set(chosen)) == count
    assert chosen == drawn_sites(SITES, count, seed, number)
    assert list(chosen) == [site for site in SITES if site in chosen]


def test_a_lot_is_fair() -> None:
    """Each of 8 sites in 2 of 8 places: 4,000 draws, 6 standard deviations, so a false alarm is one in 10^8."""
    drawn = Counter(site for number in range(1, 4001) for site in drawn_sites(SITES, 2, 5, number))
    assert all(abs(drawn[site] - 1000) < 6 * (4000 * 0.25 * 0.75) ** 0.5 for site in SITES)


def played(rewards: dict[str, float], rounds: int, seed: int, noise: float = 0.3) -> list[AskedRound]:
    """Rounds of two sites with noisy rewards."""
    chooser, history = np.random.default_rng(seed), list[AskedRound]()
    for number in range(1, rounds + 1):
        asked = best_sites(PRICES, 2, seed, history)
        got = {site: rewards[site] + noise * float(chooser.normal()) for site in asked}
        history.append(AskedRound(number, asked, got))
    return history


def test_every_site_is_tried_before_any_is_chosen_for_its_record() -> None:
    history = played(dict.fromkeys(SITES, 0.0), 4, 0)
    assert sorted(site for each in history for site in each.asked) == sorted(SITES)


@pytest.mark.parametrize("seed", range(5))
def test_sites_that_harm_are_left_out_once_that_is_known(seed: int) -> None:
    rewards = {site: (1.0 if i < 4 else -1.0) for i, site in enumerate(SITES)}
    late = [site for each in played(rewards, 24, seed)[8:] for site in each.asked]
    assert sum(rewards[site] < 0 for site in late) <= len(late) // 8  # by lot it would be a half


def test_of_equal_help_the_cheaper_in_epsilon_is_chosen() -> None:
    prices = {"dear": 8.0, "cheap": 1.0}
    history = [AskedRound(1, ("dear",), {"dear": 1.0}), AskedRound(2, ("cheap",), {"cheap": 1.0})]
    assert best_sites(prices, 1, 0, history) == ("cheap",)


def test_rewards_of_early_and_late_rounds_compare() -> None:
    early = round_rewards(0.5, {"a": 0.4, "b": 0.5, "c": 0.6})
    late = round_rewards(0.005, {"a": 0.004, "b": 0.005, "c": 0.006})
    assert early == pytest.approx(late)
    assert early["a"] == pytest.approx(1.5)
    assert early["b"] == 0.0
    assert early["c"] == pytest.approx(-1.5)
    assert round_rewards(1.0, {"a": 1.0}) == {"a": 0.0}
    assert round_rewards(1.0, {}) == {}
