"""Payouts to the cent: the worked pots, and what holds for every pot."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.rewards import (
    WHOLE_MODEL,
    Allocation,
    Limits,
    Policy,
    ownership,
    policy_weights,
    rational_limits,
    share_pot,
)

PHI = {"0": 0.031, "1": 0.052, "2": 0.0087, "3": 0.118, "4": -0.0142}
POT = 1_000_000
COSTS = {"0": 100_000, "1": 180_000, "2": 60_000, "3": 200_000, "4": 10_000}
FLOOR_AND_CAP = {site: Limits(50_000 if site != "4" else 0, 400_000) for site in PHI}


def cents(allocation: Allocation) -> list[int]:
    """Parts in the order of the names."""
    return list(allocation.parts.values())


def test_the_worked_pot() -> None:
    # ECONOMICS section 2
    found = share_pot(POT, PHI)
    assert (cents(found), found.kept) == ([147_830, 247_973, 41_488, 562_709, 0], 0)


def test_thirds_of_a_hundred_cents() -> None:
    assert cents(share_pot(100, dict.fromkeys("abc", 1.0))) == [34, 33, 33]


def test_a_pot_that_nobody_earned_is_kept() -> None:
    found = share_pot(POT, {"a": -1.0, "b": 0.0})
    assert (cents(found), found.kept) == ([0, 0], POT)


def test_caps_that_bind_everyone_keep_the_rest() -> None:
    weights = dict(zip("01234", (1, 1, 1, 0, -1), strict=True))
    found = share_pot(POT, weights, dict.fromkeys("01234", Limits(cap=300_000)))
    assert (cents(found), found.kept) == ([300_000] * 3 + [0, 0], 100_000)


def test_the_worked_floor_and_cap() -> None:
    found = share_pot(POT, PHI, FLOOR_AND_CAP)
    assert (cents(found), found.kept) == ([202_835, 340_240, 56_925, 400_000, 0], 0)
    # a share by contribution is not individually rational
    surplus = [part - COSTS[site] for site, part in found.parts.items()]
    assert surplus == [102_835, 160_240, -3_075, 200_000, -10_000]


def test_floors_at_accepted_costs_leave_nobody_worse_off() -> None:
    caps = {site: Limits(cap=400_000) for site in PHI}
    found = share_pot(POT, PHI, rational_limits(COSTS, caps))
    assert cents(found) == [197_952, 332_048, 60_000, 400_000, 10_000]
    surplus = [part - COSTS[site] for site, part in found.parts.items()]
    assert surplus == [97_952, 152_048, 0, 200_000, 0]


weight = st.floats(-1, 1) | st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def pots(draw: st.DrawFn) -> tuple[int, dict[str, float], dict[str, Limits]]:
    """A pot that its floors allow, weights and limits of up to seven sites."""
    names = "abcdefg"[: draw(st.integers(1, 7))]
    weights = {name: draw(weight) for name in names}
    limits = {}
    for name in draw(st.sets(st.sampled_from(names))):
        floor = draw(st.integers(0, 500))
        limits[name] = Limits(floor, draw(st.none() | st.integers(floor, 2_000)))
    floors = sum(limit.floor for limit in limits.values())
    return draw(st.integers(floors, floors + 5_000)), weights, limits


@given(pots())
def test_nothing_is_lost_and_limits_hold(drawn: tuple[int, dict[str, float], dict[str, Limits]]) -> None:
    pot, weights, limits = drawn
    found = share_pot(pot, weights, limits)
    assert sum(found.parts.values()) + found.kept == pot
    assert found.kept >= 0
    for site, part in found.parts.items():
        bound = limits.get(site, Limits())
        assert bound.floor <= part
        assert bound.cap is None or part <= bound.cap
        if weights[site] <= 0:
            assert part == bound.floor
    if found.kept:  # only where nobody with a contribution could take more
        assert all(
            weights[site] <= 0 or part == limits.get(site, Limits()).cap for site, part in found.parts.items()
        )


@given(pots())
def test_a_larger_weight_never_gets_less(drawn: tuple[int, dict[str, float], dict[str, Limits]]) -> None:
    pot, weights, _ = drawn
    limits = dict.fromkeys(weights, Limits(min(10, pot // len(weights)), 1_000))
    found = share_pot(pot, weights, limits)
    for one in weights:
        for other in weights:
            if weights[one] > weights[other]:
                assert found.parts[one] >= found.parts[other]
            if max(0, weights[one]) == max(0, weights[other]):
                assert abs(found.parts[one] - found.parts[other]) <= 1


@given(pots(), st.randoms())
def test_the_order_of_sites_does_not_matter(
    drawn: tuple[int, dict[str, float], dict[str, Limits]], chooser: object
) -> None:
    pot, weights, limits = drawn
    names = list(weights)
    chooser.shuffle(names)  # type: ignore[attr-defined]  # hypothesis' random.Random
    shuffled = share_pot(pot, {name: weights[name] for name in names}, limits)
    assert shuffled == share_pot(pot, weights, limits)
    assert list(shuffled.parts) == sorted(names)


@given(pots())
def test_rational_where_asked(drawn: tuple[int, dict[str, float], dict[str, Limits]]) -> None:
    pot, weights, _ = drawn
    costs = {site: min(10 * i, pot // len(weights)) for i, site in enumerate(weights)}
    found = share_pot(pot, weights, rational_limits(costs))
    assert all(found.parts[site] >= cost for site, cost in costs.items())


@given(st.dictionaries(st.sampled_from("abcdefg"), st.floats(0, 1), min_size=1), st.integers(0, 10**15))
def test_a_part_is_within_a_cent_of_its_share(weights: dict[str, float], pot: int) -> None:
    total = sum(Fraction(value) for value in weights.values())
    if total:
        for site, part in share_pot(pot, weights).parts.items():
            assert abs(part - pot * Fraction(weights[site]) / total) < 1


def test_exact_weights_of_any_size_are_taken() -> None:
    weights = {"a": Fraction(10**400), "b": Fraction(2 * 10**400)}
    assert cents(share_pot(300, weights)) == [100, 200]
    assert cents(share_pot(7, {"a": 5e-324, "b": 1e308})) == [0, 7]


@pytest.mark.parametrize(
    ("pot", "weights", "limits", "message"),
    [
        (-1, {"a": 1.0}, {}, "pot = -1 cents"),
        (10, {"a": float("nan")}, {}, "weight of a = nan"),
        (10, {"a": float("inf")}, {}, "weight of a = inf"),
        (10, {"a": 1.0}, {"a": Limits(5, 4)}, "floor = 5, cap = 4"),
        (10, {"a": 1.0}, {"a": Limits(-1)}, "floor = -1"),
        (10, {"a": 1.0, "b": 1.0}, {"a": Limits(6), "b": Limits(5)}, "less than the floors, 11"),
        (10, {"a": 1.0}, {"b": Limits()}, r"\['b'\] are not among the sites"),
    ],
)
def test_pots_that_cannot_be_shared(
    pot: int, weights: dict[str, float], limits: dict[str, Limits], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        share_pot(pot, weights, limits)


@pytest.mark.parametrize("cost", [-1, 11])
def test_a_cost_that_no_limit_covers_is_refused(cost: int) -> None:
    with pytest.raises(BadInput, match=f"cost of a = {cost} cents"):
        rational_limits({"a": cost}, {"a": Limits(cap=10)})


def test_policies() -> None:
    sizes = {"a": 100, "b": 300}
    values = {"a": 0.3, "b": -0.1}
    pots_by = {policy: share_pot(400, policy_weights(policy, sizes, values, sizes)) for policy in Policy}
    assert {policy: cents(found) for policy, found in pots_by.items()} == {
        Policy.SHAPLEY: [400, 0],
        Policy.EQUAL: [200, 200],
        Policy.SIZE: [100, 300],
    }


def test_a_policy_without_its_figures_is_refused() -> None:
    with pytest.raises(BadInput, match=r"rewards.policy = shapley: no contribution is known of \['b'\]"):
        policy_weights(Policy.SHAPLEY, "ab", {"a": 1.0}, {"a": 1, "b": 1})
    with pytest.raises(BadInput, match=r"no declared size is known of \['a', 'b'\]"):
        policy_weights(Policy.SIZE, "ab", {"a": 1.0, "b": 1.0}, None)


def test_ownership_is_whole_and_of_contributors_only() -> None:
    found = ownership(PHI)
    assert sum(found.parts.values()) == WHOLE_MODEL == found.whole
    assert found.parts["4"] == 0
    assert found.fraction_of("3") == pytest.approx(0.118 / 0.2097, abs=1e-6)
    nobody = ownership({"a": -1.0})
    assert (nobody.parts, nobody.kept) == ({"a": 0}, WHOLE_MODEL)
    assert share_pot(0, {"a": 1.0}).fraction_of("a") == 0
