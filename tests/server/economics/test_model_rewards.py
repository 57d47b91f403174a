"""A weaker model for who contributed less: the worked example, and nobody worse off than alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.games import Game
from server.economics.model_rewards import largest_rational_rho, model_rewards
from server.economics.shapley import shapley
from tests.server.economics.known_games import federated

GAME = Game("01234", federated)
VALUES = shapley(GAME)
GAIN = GAME(GAME.everybody) - GAME("")
ALONE = {site: GAME(site) - GAME("") for site in GAME.sites}


def test_the_worked_example() -> None:
    # ECONOMICS section 2: sites 0 to 4 of the federated game
    assert list(VALUES.values()) == pytest.approx([0.019459, 0.033584, 0.053848, 0.080463, 0.114173], abs=1e-6)
    assert list(ALONE.values()) == pytest.approx([0.073401, 0.117157, 0.169060, 0.221115, 0.266667], abs=1e-6)
    proportional = model_rewards(VALUES, GAIN, 1)
    expected = [0.051390, 0.088695, 0.142211, 0.212499, 0.301527]
    assert list(proportional.values()) == pytest.approx(expected, abs=1e-6)
    assert [proportional[site] < ALONE[site] for site in GAME.sites] == [True, True, True, True, False]
    rho = largest_rational_rho(VALUES, ALONE, GAIN)
    assert rho == pytest.approx(0.769887, abs=1e-6)
    rational = model_rewards(VALUES, GAIN, rho)
    expected = [0.077216, 0.117541, 0.169060, 0.230318, 0.301527]
    assert list(rational.values()) == pytest.approx(expected, abs=1e-6)


def test_at_rho_zero_everybody_gets_the_best_model() -> None:
    assert set(model_rewards(VALUES, GAIN, 0).values()) == {GAIN}


@given(st.dictionaries(st.sampled_from("abcde"), st.tuples(st.floats(1e-3, 1), st.floats(0, 1)), min_size=1))
def test_the_largest_rho_is_rational_for_all(sites: dict[str, tuple[float, float]]) -> None:
    values = {site: phi for site, (phi, _) in sites.items()}
    alone = {site: part for site, (_, part) in sites.items()}
    rho = largest_rational_rho(values, alone, 1.0)
    assert 0 <= rho <= 1
    found = model_rewards(values, 1.0, rho)
    assert all(found[site] >= alone[site] - 1e-9 for site in sites)


def test_what_has_no_model_reward_is_refused() -> None:
    with pytest.raises(BadInput, match="leave out sites that harm"):
        model_rewards({"a": 1.0, "b": -0.1}, 1.0, 1.0)
    with pytest.raises(BadInput, match="rho = 2"):
        model_rewards({"a": 1.0}, 1.0, 2.0)
    with pytest.raises(BadInput, match=r"\['b'\] reach more alone"):
        largest_rational_rho({"a": 1.0, "b": 0.5}, {"a": 0.5, "b": 1.5}, 1.0)
