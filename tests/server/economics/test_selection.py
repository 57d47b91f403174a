"""The bandit: regret in a simulated market, budgets that are never overspent, and a state that resumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.selection import (
    Arm,
    Rule,
    SelectionPlan,
    SelectionState,
    Turn,
    best_mix,
    choose,
    observe,
    selection_state_from_json,
    selection_state_to_json,
    start,
    theoretical_width,
)

# ECONOMICS section 4: (price, P accept, P gain | accept, epsilon)
OFFERS = {
    "A low": (0.3, 0.35, 0.6, 0.3),
    "A high": (0.7, 0.85, 0.6, 0.3),
    "B low": (0.2, 0.5, 0.15, 0.5),
    "B high": (0.6, 0.9, 0.15, 0.5),
    "C low": (0.4, 0.2, 0.9, 0.25),
    "C high": (0.9, 0.7, 0.9, 0.25),
}
REWARDS = np.array([accepts * gains for _, accepts, gains, _ in OFFERS.values()])
COSTS = np.array([[price * accepts, epsilon * accepts] for price, accepts, _, epsilon in OFFERS.values()])
OPTIMUM = 652.0


def market(rule: Rule, seed: int, rounds: int = 2000, width: float = 1.0) -> SelectionPlan:
    """The worked instance; budgets of a quarter and an eighth of the rounds."""
    arms = tuple(Arm(name, (price, epsilon)) for name, (price, _, _, epsilon) in OFFERS.items())
    return SelectionPlan(arms, rounds, (rounds / 4, rounds / 8), rule, width, seed)


def played(plan: SelectionPlan, state: SelectionState) -> Iterator[SelectionState]:
    """States after each round in the simulated market, whose luck depends on seed and round alone."""
    while (arm := choose(plan, state)) is not Turn.OVER:
        price, accepts, gains, epsilon = OFFERS[plan.arms[arm].name] if isinstance(arm, int) else (0.0,) * 4
        accepted, gained = np.random.default_rng([99, plan.seed, state.round]).random(2) < (accepts, gains)
        costs = (price, epsilon) if accepted else (0.0, 0.0)
        state = observe(plan, state, arm, float(accepted and gained), costs)
        yield state


def reward_of(plan: SelectionPlan) -> float:
    """Total reward of a whole run."""
    *_, last = played(plan, start(plan))
    assert all(last.spent(i) <= budget for i, budget in enumerate(plan.budgets))
    return sum(last.rewards)


def reward_of_one_arm(arm: int, rounds: int = 2000) -> float:
    """Expected reward of one arm until the first budget is gone."""
    return float(REWARDS[arm] * min(rounds, rounds / 4 / COSTS[arm, 0], rounds / 8 / COSTS[arm, 1]))


def test_the_worked_optimum() -> None:
    value, mix = best_mix(REWARDS, COSTS, (0.25, 0.125))
    assert 2000 * value == pytest.approx(OPTIMUM, abs=1e-6)
    assert mix == pytest.approx(np.array([0.723810, 0, 0, 0, 0, 0.276190]), abs=1e-6)
    assert max(reward_of_one_arm(arm) for arm in range(6)) == pytest.approx(500)
    assert theoretical_width(market(Rule.UCB, 0)) == pytest.approx(10.49, abs=0.005)


def test_primal_dual_has_the_regret_of_the_reference_and_beats_the_best_single_offer() -> None:
    # ECONOMICS section 4: 119.4 +- 13.9 over 200 seeds, uniform choice 313.4. The mean of 20 seeds has a standard
    # error of 3.1: outside [95, 140] by chance less than once in 10^9.
    regrets = [OPTIMUM - reward_of(market(Rule.PRIMAL_DUAL, seed)) for seed in range(20)]
    assert 95 < np.mean(regrets) < 140
    assert np.mean(regrets) < OPTIMUM - 500


@pytest.mark.slow
def test_ucb_has_the_regret_of_the_reference_and_beats_the_best_single_offer() -> None:
    # ECONOMICS section 4: 115.0 +- 12.6 over 200 seeds
    regrets = [OPTIMUM - reward_of(market(Rule.UCB, seed)) for seed in range(20)]
    assert 95 < np.mean(regrets) < 140
    assert np.mean(regrets) < OPTIMUM - 500


def test_uniform_choice_would_not_pass() -> None:
    # the control: 313.4 +- 16.3 in the reference
    regrets = []
    for seed in range(20):
        plan, chooser = market(Rule.UCB, seed), np.random.default_rng(seed)
        spent, reward = np.zeros(2), 0.0
        for _ in range(plan.rounds):
            price, accepts, gains, epsilon = list(OFFERS.values())[chooser.integers(6)]
            if (spent + np.array([price, epsilon]) > plan.budgets).any():
                break
            if chooser.random() < accepts:
                spent += (price, epsilon)
                reward += chooser.random() < gains
        regrets.append(OPTIMUM - reward)
    assert np.mean(regrets) == pytest.approx(313.4, abs=15)


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("width", [0.0, 0.25, 10.0])
def test_no_budget_is_overspent_at_any_time(rule: Rule, width: float) -> None:
    plan = market(rule, seed=1, rounds=150, width=width)
    for state in played(plan, start(plan)):
        assert all(state.spent(i) <= budget for i, budget in enumerate(plan.budgets))
        assert state.round <= plan.rounds


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=4), st.floats(0.5, 20), st.sampled_from(list(Rule)))
def test_budgets_hold_whatever_the_arms_cost(most: list[float], budget: float, rule: Rule) -> None:
    arms = tuple(Arm(str(i), (cost,)) for i, cost in enumerate(most))
    plan = SelectionPlan(arms, 40, (budget,), rule)
    state = start(plan)
    while (arm := choose(plan, state)) is not Turn.OVER:
        costs = plan.arms[arm].most if isinstance(arm, int) else ()
        state = observe(plan, state, arm, 1.0 if isinstance(arm, int) else 0.0, costs)
    assert state.spent(0) <= budget


@pytest.mark.parametrize("rule", list(Rule))
def test_a_saved_state_goes_on_bit_for_bit(rule: Rule) -> None:
    plan = market(rule, seed=3, rounds=120)
    whole = list(played(plan, start(plan)))
    saved = selection_state_to_json(whole[50])
    resumed = list(played(plan, selection_state_from_json(saved, plan)))
    assert resumed == whole[51:]
    assert selection_state_from_json(saved, plan) == whole[50]


def test_the_same_seed_chooses_the_same_and_another_does_not() -> None:
    ends = [list(played(market(Rule.UCB, seed, rounds=100), start(market(Rule.UCB, seed)))) for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("rule", list(Rule))
def test_each_arm_is_tried_once_first(rule: Rule) -> None:
    plan = market(rule, seed=0)
    runs = played(plan, start(plan))
    states = [next(runs) for _ in range(6)]
    assert states[-1].pulls == (1,) * 6


def test_ucb_skips_rounds_where_every_arm_is_dear() -> None:
    # one arm that uses 1 of a budget of 10 in 100 rounds: nine rounds in ten should be skipped
    plan = SelectionPlan((Arm("a", (1.0,)),), 100, (10.0,), Rule.UCB, width=0.0)
    state, skipped = start(plan), 0
    while (arm := choose(plan, state)) is not Turn.OVER:
        skipped += arm is Turn.SKIP
        state = observe(plan, state, arm, *((1.0, (1.0,)) if isinstance(arm, int) else ()))
    assert skipped > 40
    assert 5 <= state.pulls[0] <= 10


def test_an_arm_that_could_not_be_paid_ends_it() -> None:
    plan = SelectionPlan((Arm("a", (2.0,)),), 100, (3.0,))
    state = observe(plan, start(plan), 0, 1.0, (2.0,))
    assert choose(plan, replaced_round(state, 99)) in {Turn.OVER, Turn.SKIP}
    assert choose(plan, replaced_round(state, 100)) is Turn.OVER
    small = SelectionPlan((Arm("a", (4.0,)),), 100, (3.0,))
    assert choose(small, start(small)) is Turn.OVER


def replaced_round(state: SelectionState, number: int) -> SelectionState:
    """The same state at another round."""
    return SelectionState(number, state.pulls, state.rewards, state.costs, state.log_prices)


@pytest.mark.parametrize(
    ("arm", "reward", "costs", "message"),
    [
        (0, 1.5, (0.1, 0.1), "reward = 1.5"),
        (0, -0.1, (0.1, 0.1), "reward = -0.1"),
        (0, 1.0, (0.4, 0.1), "each between 0 and its most"),
        (0, 1.0, (0.1,), "each between 0 and its most"),
        (0, 1.0, (float("nan"), 0.1), "each between 0 and its most"),
        (6, 1.0, (0.1, 0.1), "must be between 0 and 5"),
        (-1, 1.0, (0.1, 0.1), "must be between 0 and 5"),
    ],
)
def test_observations_that_cannot_be(arm: int, reward: float, costs: tuple[float, ...], message: str) -> None:
    plan = market(Rule.UCB, 0)
    with pytest.raises(BadInput, match=message):
        observe(plan, start(plan), arm, reward, costs)


ARM = Arm("a", (1.0,))


@pytest.mark.parametrize(
    "fields",
    [
        {"arms": ()},
        {"arms": (ARM, ARM)},
        {"arms": (Arm("a", (1.0, 2.0)),)},
        {"arms": (Arm("a", (-1.0,)),)},
        {"rounds": 0},
        {"budgets": ()},
        {"budgets": (0.0,)},
        {"width": -1.0},
    ],
)
def test_plans_that_are_none(fields: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        SelectionPlan(**{"arms": (ARM,), "rounds": 10, "budgets": (1.0,), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"round": 1}'])
def test_what_is_no_saved_state(text: str) -> None:
    with pytest.raises(BadInput, match="no saved state"):
        selection_state_from_json(text, market(Rule.UCB, 0))


def test_a_state_of_another_plan_is_refused() -> None:
    other = SelectionPlan((ARM,), 10, (1.0,))
    with pytest.raises(BadInput, match="of another plan"):
        selection_state_from_json(selection_state_to_json(start(other)), market(Rule.UCB, 0))
