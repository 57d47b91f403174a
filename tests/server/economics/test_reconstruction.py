"""Coalition models: the whole one is the round's own, a free rider earns nothing, absent sites change nothing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.study import FederationSection
from common.weights import Weights
from server.aggregation import StreamingMean
from server.economics.games import Coalition, Game
from server.economics.reconstruction import (
    KeptRound,
    coalition_change,
    coalition_model,
    kept_round,
    whole_run_model,
)
from server.economics.shapley import shapley
from server.optimizer import ServerState, server_step

SITES = ("east", "north", "south", "west")


def random_round(number: int = 1, seed: int = 0, sites: tuple[str, ...] = SITES) -> KeptRound:
    """Two tensors, sites of unlike weight."""
    chooser = np.random.default_rng(seed)
    start = {"a": chooser.normal(size=(3, 4)).astype(np.float32), "b": np.asarray(chooser.normal(), np.float32)}
    updates = {
        site: {name: np.asarray(v + chooser.normal(size=v.shape), np.float32) for name, v in start.items()}
        for site in sites
    }
    return kept_round(number, start, updates, {site: 100.0 * (i + 1) for i, site in enumerate(sites)})


def scalar_round(changes: dict[str, float]) -> KeptRound:
    """One number, started at 0; equal weights of 1 each are normalised to equal shares."""
    updates: dict[str, Weights] = {site: {"w": np.array([c], np.float32)} for site, c in changes.items()}
    return kept_round(1, {"w": np.zeros(1, np.float32)}, updates, dict.fromkeys(changes, 1.0))


def test_everybodys_model_is_what_the_round_made() -> None:
    kept = random_round()
    mean = StreamingMean(kept.start)
    for site, update in kept.updates.items():
        mean.add(update, kept.shares[site])
    change = mean.change()
    found = coalition_model(kept, frozenset(SITES))
    for name, start in kept.start.items():
        np.testing.assert_allclose(found[name], start + change[name], rtol=1e-6, atol=1e-6)


def test_with_some_sites_missing_the_full_model_is_still_the_rounds() -> None:
    # the mean normalises over who replied; so must the kept weights
    full = random_round()
    replied = {site: full.updates[site] for site in SITES[:2]}
    kept = kept_round(1, full.start, replied, {site: full.shares[site] for site in SITES})
    mean = StreamingMean(full.start)
    for site, update in replied.items():
        mean.add(update, full.shares[site])
    np.testing.assert_allclose(coalition_change(kept, SITES)["a"], mean.change()["a"], rtol=1e-5, atol=1e-6)


def test_nobodys_model_is_the_one_before() -> None:
    kept = random_round()
    found = coalition_model(kept, frozenset())
    for name, start in kept.start.items():
        np.testing.assert_array_equal(found[name], start)
        assert found[name].dtype == np.float32


@given(st.sets(st.sampled_from(SITES)), st.integers(0, 5))
def test_changes_of_disjoint_coalitions_add(part: set[str], seed: int) -> None:
    kept = random_round(seed=seed)
    rest = set(SITES) - part
    one, other, whole = (coalition_change(kept, sites) for sites in (part, rest, SITES))
    for name in kept.start:
        np.testing.assert_allclose(one[name] + other[name], whole[name], rtol=1e-5, atol=1e-6)


def test_the_order_of_the_sites_does_not_matter_to_the_bit() -> None:
    # of these changes the small one is lost or not, by the order in which they are added
    kept = scalar_round({"east": 1e30, "north": 1.0, "south": -1e30})
    found = {coalition_change(kept, order)["w"].tobytes() for order in permutations(kept.updates)}
    assert len(found) == 1


def near_one(model: Weights) -> float:
    """Best at 1."""
    return 1 - (float(model["w"][0]) - 1) ** 2


def test_a_free_rider_earns_nothing() -> None:
    # ECONOMICS section 1: updates 1.6, 1.4, 0; equal weights
    kept = scalar_round({"one": 1.6, "two": 1.4, "rider": 0.0})
    found = shapley(Game(kept.updates, lambda c: near_one(coalition_model(kept, c))))
    assert found["rider"] == 0.0
    assert (found["one"], found["two"]) == pytest.approx((0.533333, 0.466667), abs=1e-6)


def test_renormalising_would_pay_the_free_rider() -> None:
    # the control, as the papers do it: weights over the coalition's own members
    changes = {"one": 1.6, "two": 1.4, "rider": 0.0}

    def renormalised(coalition: Coalition) -> float:
        members = {site: changes[site] for site in coalition}
        return near_one(coalition_model(scalar_round(members), coalition)) if members else 0.0

    found = shapley(Game(changes, renormalised))
    expected = {"one": 0.388333, "two": 0.463333, "rider": 0.148333}
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_absent_site_is_a_null_player() -> None:
    kept = random_round(sites=SITES[:3])
    found = shapley(Game(SITES, lambda c: float(coalition_model(kept, c)["a"].sum())))
    assert found["west"] == 0.0
    assert found["east"] != 0.0


def test_a_server_optimizer_steps_on_the_coalitions_change() -> None:
    kept = random_round()
    federation = FederationSection.model_validate({"strategy": "fedadam"})

    def step(start: Weights, change: Weights) -> Weights:
        return server_step(federation, ServerState(), start, change, 0.1)[0]

    found = coalition_model(kept, frozenset(SITES), step)
    expected = step(kept.start, coalition_change(kept, SITES))
    np.testing.assert_array_equal(found["a"], expected["a"])
    np.testing.assert_array_equal(coalition_model(kept, frozenset(), step)["a"], kept.start["a"])


def test_a_whole_run_is_the_sum_of_its_rounds() -> None:
    rounds = [random_round(number, seed=number) for number in (1, 2, 3)]
    found = whole_run_model(rounds, frozenset(SITES[:2]))
    changes = [coalition_change(kept, SITES[:2])["a"] for kept in rounds]
    np.testing.assert_allclose(found["a"], rounds[0].start["a"] + sum(changes), rtol=1e-5, atol=1e-5)
    with pytest.raises(BadInput, match="at least one"):
        whole_run_model([], frozenset())


def test_parameters_that_only_later_rounds_train_start_there() -> None:
    # warm-start rounds train the head alone
    head, full = scalar_round({"one": 1.0}), random_round(2, sites=("one",))
    found = whole_run_model([head, full], frozenset())
    assert found.keys() == {"w", "a", "b"}
    np.testing.assert_array_equal(found["a"], full.start["a"])


def test_a_round_that_cannot_be_rebuilt_is_refused() -> None:
    kept = random_round()
    with pytest.raises(BadInput, match="round 3: no update was kept"):
        kept_round(3, kept.start, {}, {})
    with pytest.raises(BadInput, match="weight of east = None"):
        kept_round(3, kept.start, {"east": kept.updates["east"]}, {})
    with pytest.raises(BadInput, match="weight of east = 0"):
        kept_round(3, kept.start, {"east": kept.updates["east"]}, {"east": 0.0})
    with pytest.raises(BadInput, match="update of east has other tensors"):
        kept_round(3, kept.start, {"east": {"a": kept.start["a"]}}, {"east": 1.0})
