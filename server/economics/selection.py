"""Which site to ask next, learnt under budgets: a bandit with knapsacks (Badanidiyuru et al. 2013).

An arm is an offer to a site; pulling it gives a reward in [0, 1] and uses up money and epsilon. Two rules:
UCB-BwK (Agrawal & Devanur 2014), which solves a linear program of optimistic means each round, and
PrimalDualBwK, which keeps a price for each resource instead. State is a frozen value, and the draw of a round
depends on seed and round alone, so a saved state goes on bit for bit.

Thousands of rounds are needed: use it across studies, not within one. A site that expects to be asked again may
refuse in order to be offered more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum, StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from common.errors import BadInput

__all__ = [
    "Arm",
    "Rule",
    "SelectionPlan",
    "SelectionState",
    "Turn",
    "best_mix",
    "choose",
    "observe",
    "selection_state_from_json",
    "selection_state_to_json",
    "start",
    "theoretical_width",
]


class Rule(StrEnum):
    """How the next arm is chosen."""

    UCB = "ucb-bwk"
    PRIMAL_DUAL = "primal-dual-bwk"


class Turn(Enum):
    """A round without a pull."""

    SKIP = "skip"
    """Spare the budgets this round."""
    OVER = "over"
    """No rounds are left, or the arm that is due might not be paid for."""


@dataclass(frozen=True)
class Arm:
    """An offer to a site."""

    name: str
    most: tuple[float, ...]
    """Most that a pull uses of each resource, such as (price, epsilon)."""


@dataclass(frozen=True)
class SelectionPlan:
    """What is fixed before the first round."""

    arms: tuple[Arm, ...]
    rounds: int
    budgets: tuple[float, ...]
    """Of each resource, over all rounds."""
    rule: Rule = Rule.UCB
    width: float = 1.0
    """Gamma of the confidence radius. Theory's is wide; below 1 an arm unlucky at first may never be tried
    again."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.arms or len({arm.name for arm in self.arms}) != len(self.arms):
            raise BadInput("selection: at least one arm, with distinct names")
        if self.rounds < 1 or not self.budgets or not all(0 < b < math.inf for b in self.budgets):
            raise BadInput(f"selection: rounds = {self.rounds}, budgets = {self.budgets}: greater than 0, finite")
        if not 0 <= self.width < math.inf:
            raise BadInput(f"selection: width = {self.width}: must be at least 0; try 1.0")
        for arm in self.arms:
            if len(arm.most) != len(self.budgets) or not all(0 <= most < math.inf for most in arm.most):
                raise BadInput(f"arm {arm.name}: most = {arm.most}: needs one number, at least 0, a budget")


@dataclass(frozen=True)
class SelectionState:
    """What has been seen; tuples in the plan's order of arms and budgets."""

    round: int
    """Rounds that ended, skipped ones too."""
    pulls: tuple[int, ...]
    rewards: tuple[float, ...]
    """Sum by arm."""
    costs: tuple[tuple[float, ...], ...]
    """Sum by arm and resource."""
    log_prices: tuple[float, ...]
    """Primal-dual's price of each resource and, last, of time; not normalised."""

    def spent(self, resource: int) -> float:
        """How much of a resource is used up."""
        return math.fsum(of_arm[resource] for of_arm in self.costs)


def start(plan: SelectionPlan) -> SelectionState:
    """The state before the first round."""
    arms, resources = len(plan.arms), len(plan.budgets)
    return SelectionState(0, (0,) * arms, (0.0,) * arms, ((0.0,) * resources,) * arms, (0.0,) * (resources + 1))


def theoretical_width(plan: SelectionPlan) -> float:
    """Gamma of the regret bounds: ``ln(m T d)`` with m arms and d resources, time included."""
    return math.log(len(plan.arms) * plan.rounds * (len(plan.budgets) + 1))


def choose(plan: SelectionPlan, state: SelectionState) -> int | Turn:
    """The arm of the next round, as its place in the plan; or that there is none."""
    if state.round >= plan.rounds:
        return Turn.OVER
    arm = _due(plan, state)
    if isinstance(arm, Turn) or _payable(plan, state, arm):
        return arm
    return Turn.OVER


def observe(
    plan: SelectionPlan, state: SelectionState, arm: int | Turn, reward: float = 0.0, costs: Sequence[float] = ()
) -> SelectionState:
    """The state after a round in which ``arm`` was pulled or that was skipped.

    Raises:
        BadInput: there is no such arm, the reward is outside [0, 1], or a cost outside what the arm may use.
    """
    if isinstance(arm, Turn):
        return replace(state, round=state.round + 1)
    if not 0 <= arm < len(plan.arms):
        raise BadInput(f"selection: arm = {arm}: must be between 0 and {len(plan.arms) - 1}")
    most = plan.arms[arm].most
    if not 0 <= reward <= 1:
        raise BadInput(f"arm {plan.arms[arm].name}: reward = {reward}: must be between 0 and 1")
    if len(costs) != len(most) or not all(0 <= cost <= limit for cost, limit in zip(costs, most, strict=True)):
        raise BadInput(f"arm {plan.arms[arm].name}: costs = {tuple(costs)}: each between 0 and its most, {most}")
    log_prices = _dearer(plan, state, arm)
    added = tuple(old + new for old, new in zip(state.costs[arm], costs, strict=True))
    return SelectionState(
        round=state.round + 1,
        pulls=(*state.pulls[:arm], state.pulls[arm] + 1, *state.pulls[arm + 1 :]),
        rewards=(*state.rewards[:arm], state.rewards[arm] + reward, *state.rewards[arm + 1 :]),
        costs=(*state.costs[:arm], added, *state.costs[arm + 1 :]),
        log_prices=log_prices,
    )


def best_mix(
    rewards: NDArray[np.float64], costs: NDArray[np.float64], rates: Sequence[float]
) -> tuple[float, NDArray[np.float64]]:
    """The best fixed mix of arms, and its reward for a round.

    Args:
        rewards: expected reward of a pull, shape (arms,).
        costs: expected use of a pull, shape (arms, resources).
        rates: budget for a round of each resource.

    Returns:
        ``max r.x`` subject to ``C'x <= rates``, ``sum x <= 1``, ``x >= 0``; and x. Times the number of rounds it
        bounds what any strategy can expect.
    """
    rows = np.vstack([np.asarray(costs, np.float64).T, np.ones(len(rewards))])
    solved = linprog(-rewards, A_ub=rows, b_ub=[*rates, 1.0], bounds=(0, None), method="highs")
    return -float(solved.fun), np.asarray(solved.x, np.float64)


def selection_state_to_json(state: SelectionState) -> str:
    """The state as JSON; floats read back equal."""
    return json.dumps(asdict(state), sort_keys=True)


def selection_state_from_json(text: str, plan: SelectionPlan) -> SelectionState:
    """Read back a state of this plan; raises :class:`BadInput` on anything else."""
    try:
        tree = json.loads(text)
        state = SelectionState(
            round=int(tree["round"]),
            pulls=tuple(int(pulls) for pulls in tree["pulls"]),
            rewards=tuple(float(reward) for reward in tree["rewards"]),
            costs=tuple(tuple(float(cost) for cost in of_arm) for of_arm in tree["costs"]),
            log_prices=tuple(float(price) for price in tree["log_prices"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("selection: this is no saved state") from error
    fresh = start(plan)
    alike = [len(of_arm) for of_arm in state.costs] == [len(of_arm) for of_arm in fresh.costs]
    if not alike or len(state.pulls) != len(fresh.pulls) or len(state.log_prices) != len(fresh.log_prices):
        raise BadInput("selection: the saved state is of another plan")
    return state


def _due(plan: SelectionPlan, state: SelectionState) -> int | Turn:
    """The arm that the rule asks for: each once, then by optimistic estimates."""
    if 0 in state.pulls:
        return state.pulls.index(0)
    rewards, costs = _estimates(plan, state)
    if plan.rule is Rule.PRIMAL_DUAL:
        prices = _prices(state)
        scaled = np.column_stack([costs * _scales(plan), np.ones(len(costs))])
        return int(np.argmax(rewards / (scaled @ prices)))
    _, mix = best_mix(rewards, costs, [budget / plan.rounds for budget in plan.budgets])
    draw = np.random.default_rng([plan.seed, state.round]).random()
    passed = np.flatnonzero(draw < np.cumsum(np.clip(mix, 0, None)))
    return int(passed[0]) if passed.size else Turn.SKIP


def _estimates(plan: SelectionPlan, state: SelectionState) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper estimates of rewards, (arms,), and lower ones of costs, (arms, resources)."""
    counts = np.asarray(state.pulls, np.float64) + 1
    rewards = np.asarray(state.rewards) / counts
    costs = np.asarray(state.costs) / counts[:, None]
    upper = np.minimum(1, rewards + 2 * _radius(rewards, counts, plan.width))
    return upper, np.maximum(0, costs - 2 * _radius(costs, counts[:, None], plan.width))


def _radius(mean: NDArray[np.float64], counts: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """``sqrt(gamma x / N) + gamma / N`` (Badanidiyuru et al. 2013, section 3)."""
    return np.asarray(np.sqrt(width * mean / counts) + width / counts)


def _scales(plan: SelectionPlan) -> NDArray[np.float64]:
    """Factors after which all budgets, and time, equal the number of rounds."""
    return plan.rounds / np.asarray(plan.budgets)


def _prices(state: SelectionState) -> NDArray[np.float64]:
    logs = np.asarray(state.log_prices)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _dearer(plan: SelectionPlan, state: SelectionState, arm: int) -> tuple[float, ...]:
    """Primal-dual: a resource's price grows with what the arm is at least known to use of it."""
    if plan.rule is not Rule.PRIMAL_DUAL or 0 in state.pulls:
        return state.log_prices
    used = [*(_estimates(plan, state)[1][arm] * _scales(plan)), 1.0]
    rate = math.log1p(math.sqrt(math.log(len(used)) / plan.rounds))
    return tuple(price + rate * float(use) for price, use in zip(state.log_prices, used, strict=True))


def _payable(plan: SelectionPlan, state: SelectionState, arm: int) -> bool:
    return all(
        state.spent(resource) + plan.arms[arm].most[resource] <= budget
        for resource, budget in enumerate(plan.budgets)
    )
