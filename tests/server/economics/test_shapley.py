"""Exact values: the worked games, the axioms, and two definitions that must agree."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.games import Game
from server.economics.least_core import least_core
from server.economics.shapley import banzhaf, beta_shapley, exact_evaluations, leave_one_out, shapley
from tests.server.economics.known_games import known, tabled, tables

# ECONOMICS section 1, from an independent script; 6 decimals.
GOLDEN = [
    (
        "glove",
        [0.666667, 0.166667, 0.166667],
        [0.75, 0.25, 0.25],
        [1, 0, 0],
        [0.111111, 0.052288, 0.052288],
    ),
    (
        "synergy",
        [18, 28, 28, 36],
        [17.5, 27.5, 27.5, 36],
        [28, 38, 28, 32],
        [10.745098, 20.745098, 29.568627, 39.529412],
    ),
    (
        "federated",
        [0.020085, 0.034812, 0.056201, 0.084816, 0.121887, -0.028582],
        [0.011721, 0.022360, 0.040410, 0.067848, 0.104703, -0.024910],
        [0.001851, 0.003792, 0.007979, 0.017840, 0.047288, -0.012308],
        [0.061651, 0.099939, 0.146825, 0.195649, 0.240127, -0.054202],
    ),
]


@pytest.mark.parametrize(("name", "by_shapley", "by_banzhaf", "by_leaving", "by_beta"), GOLDEN)
def test_the_worked_games(
    name: str, by_shapley: list[float], by_banzhaf: list[float], by_leaving: list[float], by_beta: list[float]
) -> None:
    game = known(name)
    assert list(shapley(game).values()) == pytest.approx(by_shapley, abs=1e-6)
    assert list(banzhaf(game).values()) == pytest.approx(by_banzhaf, abs=1e-6)
    assert list(leave_one_out(game).values()) == pytest.approx(by_leaving, abs=1e-6)
    assert list(beta_shapley(game, 16, 1).values()) == pytest.approx(by_beta, abs=1e-6)


@pytest.mark.parametrize(("name", "total"), [("glove", 1.25), ("synergy", 108.5), ("federated", 0.222131)])
def test_banzhaf_values_sum_to_something_else(name: str, total: float) -> None:
    assert sum(banzhaf(known(name)).values()) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "excess", "values"),
    [
        ("glove", 0, [1, 0, 0]),
        ("synergy", 4, [24, 24, 26, 36]),
        ("federated", 0.13, [0.011438, 0.025247, 0.044753, 0.091114, 0.136667, -0.02]),
    ],
)
def test_the_least_core_of_the_worked_games(name: str, excess: float, values: list[float]) -> None:
    found = least_core(known(name))
    assert found.excess == pytest.approx(excess, abs=1e-6)
    assert list(found.values.values()) == pytest.approx(values, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_no_coalition_falls_short_by_more_than_the_excess(
    table: tuple[str, list[float]],
) -> None:
    names, worth = table
    if len(names) < 2:
        return
    found = least_core(tabled(names, worth))
    assert sum(found.values.values()) == pytest.approx(worth[-1] - worth[0], abs=1e-4)
    for mask in range(1, len(worth) - 1):
        paid = sum(found.values[name] for i, name in enumerate(names) if mask >> i & 1)
        assert paid + found.excess >= worth[mask] - worth[0] - 1e-4


@given(tables())
def test_shapley_values_sum_to_what_everybody_gains(table: tuple[str, list[float]]) -> None:
    names, worth = table
    assert sum(shapley(tabled(names, worth)).values()) == pytest.approx(worth[-1] - worth[0], abs=1e-9)


@given(tables("abcd"), st.sampled_from(list(permutations("abcd"))))
def test_new_names_move_the_values_along(table: tuple[str, list[float]], renamed: tuple[str, ...]) -> None:
    game = tabled(*table)
    back = dict(zip(renamed, "abcd", strict=True))
    other = Game("abcd", lambda coalition: game(back[site] for site in coalition))
    assert shapley(other) == {new: shapley(game)[old] for new, old in back.items()}  # to the bit


@given(tables("abcd"))
def test_symmetric_sites_get_the_same_float(table: tuple[str, list[float]]) -> None:
    # the worth depends on a and b only through how many of them take part
    def worth(coalition: frozenset[str]) -> float:
        return table[1][len(coalition & {"a", "b"}) + 4 * ("c" in coalition) + 8 * ("d" in coalition)]

    game = Game("abcd", worth)
    for value in (shapley, banzhaf, leave_one_out):
        found = value(game)
        assert found["a"] == found["b"]


@given(tables("abc"), st.floats(-100, 100))
def test_a_site_that_adds_the_same_to_everybody_gets_that(table: tuple[str, list[float]], adds: float) -> None:
    game = tabled(*table)
    joined = Game("abcz", lambda coalition: game(coalition - {"z"}) + adds * ("z" in coalition))
    found, alone = shapley(joined), shapley(game)
    assert found["z"] == pytest.approx(adds, abs=1e-9)
    assert [found[site] for site in "abc"] == pytest.approx([alone[site] for site in "abc"], abs=1e-9)
    assert banzhaf(joined)["z"] == pytest.approx(adds, abs=1e-9)


@given(tables("abc"))
def test_a_null_player_gets_exactly_nothing(table: tuple[str, list[float]]) -> None:
    game = tabled(*table)
    joined = Game("abcz", lambda coalition: game(coalition - {"z"}))
    for found in (shapley(joined), banzhaf(joined), leave_one_out(joined), beta_shapley(joined, 4, 1)):
        assert found["z"] == 0.0


@given(tables("abc"), tables("abc"), st.floats(-10, 10))
def test_values_of_a_sum_are_the_sum_of_values(
    one: tuple[str, list[float]], two: tuple[str, list[float]], factor: float
) -> None:
    mixed = shapley(tabled("abc", [a + factor * b for a, b in zip(one[1], two[1], strict=True)]))
    first, second = shapley(tabled(*one)), shapley(tabled(*two))
    assert mixed == pytest.approx({s: first[s] + factor * second[s] for s in "abc"}, abs=1e-8)


@settings(max_examples=30)
@given(tables())
def test_the_mean_over_all_orders_is_the_same_value(table: tuple[str, list[float]]) -> None:
    # the slow, obvious definition (Shapley 1953)
    game = tabled(*table)
    means = dict.fromkeys(game.sites, 0.0)
    for order in permutations(game.sites):
        for place, site in enumerate(order):
            means[site] += (game(order[: place + 1]) - game(order[:place])) / factorial(len(order))
    assert shapley(game) == pytest.approx(means, abs=1e-8)
    assert beta_shapley(game, 1, 1) == pytest.approx(means, abs=1e-8)


def test_no_site_and_one_site() -> None:
    assert shapley(Game("", lambda _: 3.0)) == {}
    assert leave_one_out(Game("", lambda _: 3.0)) == {}
    alone = Game("a", lambda coalition: 5.0 if coalition else 2.0)
    assert shapley(alone) == banzhaf(alone) == leave_one_out(alone) == {"a": 3.0}


def test_too_many_sites_are_refused_before_anything_is_evaluated() -> None:
    game = Game("abcdefghijk", len)
    with pytest.raises(BadInput, match="sites = 11: exact values need 2048 evaluations; at most 10"):
        shapley(game)
    assert game.evaluations == 0
    assert shapley(game, most_sites=11) == pytest.approx(dict.fromkeys("abcdefghijk", 1.0))
    assert game.evaluations == exact_evaluations(11)


def test_other_values_refuse_too_many_sites_and_odd_shapes() -> None:
    game = Game("abcdefghijk", len)
    with pytest.raises(BadInput, match="sites = 11"):
        banzhaf(game)
    with pytest.raises(BadInput, match="sites = 11"):
        least_core(game)
    with pytest.raises(BadInput, match="both must be greater than 0"):
        beta_shapley(known("glove"), 0, 1)
