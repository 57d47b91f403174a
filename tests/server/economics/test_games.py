"""A game evaluates each coalition once, keeps true values, and goes on from a file."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.errors import BadInput, RunFailed
from server.economics.games import Coalition, Game, subsets
from server.economics.shapley import banzhaf, leave_one_out, shapley
from tests.server.economics.known_games import federated, known


class Counted:
    """A utility that counts its calls."""

    def __init__(self) -> None:
        self.calls: Counter[Coalition] = Counter()

    def __call__(self, coalition: Coalition) -> float:
        self.calls[coalition] += 1
        return federated(coalition)


def test_the_table_of_the_worked_game() -> None:
    game = known("federated")
    assert sum(game.values(subsets(game.sites))) == pytest.approx(46.489758, abs=1e-6)
    found = [game(members) for members in ("0", "5", "05", "34", "01234", "012345", "")]
    expected = [0.573401, 0.44, 0.520068, 0.789060, 0.801527, 0.789219, 0.5]
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_coalition_is_evaluated_once_whoever_asks() -> None:
    utility = Counted()
    game = Game("012345", utility)
    shapley(game)
    banzhaf(game)
    leave_one_out(game)
    game.values([frozenset("01"), frozenset("10")])
    assert set(utility.calls.values()) == {1}
    assert game.evaluations == len(utility.calls) == 64


def test_twice_the_same_in_one_request_is_evaluated_once() -> None:
    utility = Counted()
    assert len(Game("012345", utility).values([frozenset("0")] * 3)) == 3
    assert utility.calls.total() == 1


def test_an_executor_changes_no_value() -> None:
    with ThreadPoolExecutor(3) as executor:
        together = shapley(Game("012345", federated, executor=executor))
    assert together == shapley(known("federated"))


def test_subsets_are_in_the_order_of_bit_masks() -> None:
    found = subsets("abc")
    assert found == [frozenset("abc"[i] for i in range(3) if mask >> i & 1) for mask in range(8)]


def test_a_store_is_gone_on_from_and_nothing_is_evaluated_again(tmp_path: Path) -> None:
    store = tmp_path / "values.json"
    first = shapley(Game("012345", federated, identity="study", store=store))
    utility = Counted()
    again = Game("543210", utility, identity="study", store=store)
    assert shapley(again) == first
    assert again.evaluations == utility.calls.total() == 0
    assert json.loads(store.read_text())["values"]['["3", "4"]'] == federated(frozenset("34"))


def test_what_was_evaluated_before_a_failure_is_kept(tmp_path: Path) -> None:
    def fails_at_the_end(coalition: Coalition) -> float:
        if len(coalition) == 6:
            raise OSError("out of memory")
        return federated(coalition)

    store = tmp_path / "values.json"
    with pytest.raises(OSError, match="out of memory"):
        shapley(Game("012345", fails_at_the_end, store=store))
    resumed = Game("012345", federated, store=store)
    assert shapley(resumed) == shapley(known("federated"))
    assert resumed.evaluations == 1


def test_a_store_of_another_game_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "values.json"
    Game("01", lambda _: 1.0, identity="round 1", store=store)("0")
    with pytest.raises(BadInput, match=r"values of another game \('round 1'"):
        Game("01", lambda _: 1.0, identity="round 2", store=store)
    with pytest.raises(BadInput, match="another game"):
        Game("012", lambda _: 1.0, identity="round 1", store=store)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"values": {}}',
        '{"identity": "", "sites": ["0"], "values": {"0": 1}}',
        '{"identity": "", "sites": ["0"], "values": {"[\\"1\\"]": 1}}',
        '{"identity": "", "sites": ["0"], "values": {"[]": NaN}}',
    ],
)
def test_a_damaged_store_is_refused(tmp_path: Path, text: str) -> None:
    store = tmp_path / "values.json"
    store.write_text(text)
    with pytest.raises(BadInput, match=r"values\.json: "):
        Game("0", lambda _: 1.0, store=store)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_worth_that_is_no_number_is_an_error_and_not_kept(value: float) -> None:
    game = Game("ab", lambda coalition: value if coalition else 0.0)
    with pytest.raises(RunFailed, match=r"utility of \['a'\]"):
        game("a")
    assert game.unknown([frozenset("a")]) == [frozenset("a")]


def test_strangers_and_names_that_stand_twice_are_refused() -> None:
    with pytest.raises(BadInput, match=r"\['x'\] are not sites"):
        known("glove")("0x")
    with pytest.raises(BadInput, match="a name stands twice"):
        Game("aab", len)
