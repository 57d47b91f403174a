"""Splitting or copying a site's data pays under Shapley and does not under unions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings

from common.errors import BadInput
from server.economics.games import Coalition, Game
from server.economics.owen import owen, quotient
from server.economics.shapley import banzhaf, leave_one_out, shapley
from tests.server.economics.known_games import tabled, tables


def learning(examples: Mapping[str, set[int]]) -> Game:
    """Worth of the distinct examples of a coalition, in thousands: 1 - (1 + x)^-1/2."""

    def worth(coalition: Coalition) -> float:
        distinct = len(set().union(*(examples[site] for site in coalition)))
        return 1 - (1 + distinct / 1000) ** -0.5

    return Game(examples, worth)


A, B = set(range(4000)), set(range(4000, 8000))
WHOLE = learning({"a": A, "b": B})
SPLIT = learning({"a1": set(range(2000)), "a2": set(range(2000, 4000)), "b": B})
COPIED = learning({"a1": A, "a2": A, "b": B})


def of_a(values: Mapping[str, float]) -> float:
    """What A's names get together."""
    return sum(value for site, value in values.items() if site.startswith("a"))


def share_of_a(values: Mapping[str, float]) -> float:
    """A's part of all that is handed out."""
    return of_a(values) / sum(values.values())


def test_before() -> None:
    assert sum(shapley(WHOLE).values()) == pytest.approx(0.666667, abs=1e-6)
    assert of_a(shapley(WHOLE)) == pytest.approx(0.333333, abs=1e-6)
    assert of_a(leave_one_out(WHOLE)) == pytest.approx(0.113880, abs=1e-6)


@pytest.mark.parametrize(
    ("game", "by_shapley", "by_banzhaf", "by_leaving"),
    [
        (SPLIT, (0.377983, 0.566975), (0.333333, 0.555840), (0.089262, 0.439407)),
        (COPIED, (0.406484, 0.609727), (0.333333, 0.598508), (0, 0)),
    ],
    ids=["split", "copied"],
)
def test_what_splitting_and_copying_gain(
    game: Game, by_shapley: tuple[float, ...], by_banzhaf: tuple[float, ...], by_leaving: tuple[float, ...]
) -> None:
    # ECONOMICS section 1, "Gaming": A's value, and its share of all values, which was one half before
    for value, expected in ((shapley, by_shapley), (banzhaf, by_banzhaf), (leave_one_out, by_leaving)):
        found = value(game)
        # ECONOMICS derives one share from a rounded value, so the last digit may be one off
        assert (of_a(found), share_of_a(found)) == pytest.approx(expected, abs=1.5e-6)


def test_four_parts_gain_more_than_two() -> None:
    parts = {f"a{i}": set(range(1000 * i, 1000 * (i + 1))) for i in range(4)}
    game = learning({**parts, "b": B})
    assert of_a(shapley(game)) == pytest.approx(0.404395, abs=1e-6)
    assert of_a(owen(game, {"A": frozenset(parts), "B": frozenset("b")})) == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize("game", [SPLIT, COPIED], ids=["split", "copied"])
def test_a_union_gets_what_one_player_would(game: Game) -> None:
    found = owen(game, {"A": frozenset({"a1", "a2"}), "B": frozenset("b")})
    assert of_a(found) == pytest.approx(1 / 3, abs=1e-12)
    assert found["a1"] == pytest.approx(found["a2"])


@settings(max_examples=40)
@given(tables("abcde"))
def test_a_union_gets_its_shapley_value_between_unions(table: tuple[str, list[float]]) -> None:
    game = tabled(*table)
    unions = {"X": frozenset("ab"), "Y": frozenset("cd"), "Z": frozenset("e")}
    found, between = owen(game, unions), shapley(quotient(game, unions))
    for name, members in unions.items():
        assert sum(found[site] for site in members) == pytest.approx(between[name], abs=1e-8)


@settings(max_examples=40)
@given(tables("abcd"))
def test_unions_that_say_nothing_change_nothing(table: tuple[str, list[float]]) -> None:
    game = tabled(*table)
    alone = owen(game, {site: frozenset(site) for site in "abcd"})
    together = owen(game, {"all": frozenset("abcd")})
    assert alone == pytest.approx(shapley(game), abs=1e-8)
    assert together == pytest.approx(shapley(game), abs=1e-8)


@pytest.mark.parametrize(
    "unions",
    [
        {"A": frozenset({"a1"}), "B": frozenset("b")},
        {"A": frozenset({"a1", "a2"}), "B": frozenset({"a2", "b"})},
        {"A": frozenset({"a1", "a2"}), "B": frozenset("b"), "C": frozenset()},
        {"A": frozenset({"a1", "a2", "x"}), "B": frozenset("b")},
    ],
    ids=["one missing", "one twice", "an empty one", "a stranger"],
)
def test_unions_must_hold_every_site_once(unions: dict[str, Coalition]) -> None:
    with pytest.raises(BadInput, match="exactly once"):
        owen(SPLIT, unions)


def test_noise_punishes_splitting_where_it_dominates() -> None:
    # ECONOMICS section 1: precision at epsilon 1, kappa 20000, of 4000 examples whole and in two halves
    from server.economics.weighting import gap_closed, precision

    whole, half = precision(4000, 1, 1, 20_000), precision(2000, 1, 1, 20_000)
    assert (float(whole), float(half)) == pytest.approx((666.666667, 181.818182), abs=1e-6)

    def worth_of(values: Mapping[str, float]) -> Game:
        return Game(values, lambda coalition: gap_closed(sum(values[site] for site in coalition), 500))

    before = shapley(worth_of({"a": float(whole), "b": float(whole)}))
    after = shapley(worth_of({"a1": float(half), "a2": float(half), "b": float(whole)}))
    assert (before["a"], of_a(after)) == pytest.approx((0.363636, 0.277871), abs=1e-6)
