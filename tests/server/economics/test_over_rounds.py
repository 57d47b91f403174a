"""Contributions to a run: rounds add up to what the run gained, and skipped rounds are named."""

from __future__ import annotations

import pytest

from common.errors import BadInput
from server.economics.games import Coalition, Game
from server.economics.over_rounds import contributions_of_run, total_estimate
from server.economics.sampling import Sampling, estimate_shapley
from server.economics.shapley import shapley
from tests.server.economics.known_games import TWELVE, known, twelve


def additive(before: float, **gains: float) -> Game:
    """A round in which each site adds its own gain."""

    def worth(coalition: Coalition) -> float:
        return before + sum(gains[site] for site in coalition)

    return Game(gains, worth)


def test_values_sum_to_what_the_run_gained() -> None:
    rounds = [additive(0.5, a=0.1, b=0.02), additive(0.62, a=0.03, b=-0.01), additive(0.64, a=0.0, b=0.05)]
    found = contributions_of_run(rounds, shapley)
    assert found.values == pytest.approx({"a": 0.13, "b": 0.06})
    assert sum(found.values.values()) == pytest.approx(0.69 - 0.5)
    assert (len(found.by_round), found.skipped, found.lost) == (3, (), 0.0)


def test_a_round_that_moved_little_pays_nobody_and_costs_two_evaluations() -> None:
    still = additive(0.5, a=0.3, b=-0.2995)
    found = contributions_of_run([additive(0.4, a=0.1, b=0.0), still], shapley)
    assert found.skipped == (1,)
    assert found.lost == pytest.approx(0.0005)
    assert found.values == pytest.approx({"a": 0.1, "b": 0.0})
    assert still.evaluations == 2
    kept = contributions_of_run([additive(0.5, a=0.3, b=-0.2995)], shapley, between_rounds=0.0)
    assert kept.values == pytest.approx({"a": 0.3, "b": -0.2995})


def test_a_round_that_did_harm_is_charged_to_who_did_it() -> None:
    found = contributions_of_run([additive(0.5, a=0.1, b=-0.3)], shapley)
    assert found.skipped == ()
    assert found.values == pytest.approx({"a": 0.1, "b": -0.3})


def test_rounds_must_have_the_same_players() -> None:
    with pytest.raises(BadInput, match=r"round 1: sites \['a'\]"):
        contributions_of_run([additive(0, a=1, b=1), additive(0, a=1)], shapley)


def test_a_run_without_rounds_gained_nothing() -> None:
    assert contributions_of_run([], shapley).values == {}


def test_errors_of_rounds_add_as_squares_and_allowances_plainly() -> None:
    parts = [estimate_shapley(Game(TWELVE, twelve), Sampling(seed=seed, within_round=0.02)) for seed in (1, 2)]
    whole = total_estimate(parts)
    for site in TWELVE:
        assert whole.values[site] == pytest.approx(sum(part.values[site] for part in parts))
        squares = sum(part.sampling_half_widths[site] ** 2 for part in parts)
        assert whole.sampling_half_widths[site] ** 2 == pytest.approx(squares)
        allowances = sum(part.truncation_allowances[site] for part in parts)
        assert whole.truncation_allowances[site] == pytest.approx(allowances)
    assert whole.evaluations == sum(part.evaluations for part in parts)


def test_only_estimates_of_one_kind_add() -> None:
    one = estimate_shapley(known("federated"), Sampling(seed=1))
    other = estimate_shapley(known("federated"), Sampling(seed=1, confidence=0.9))
    for parts in ([], [one, other], [one, estimate_shapley(known("synergy"), Sampling(seed=1))]):
        with pytest.raises(BadInput, match="of the same sites and confidence"):
            total_estimate(parts)
