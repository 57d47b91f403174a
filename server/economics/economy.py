"""A simulated economy: periods of call, auction, training, contribution, payment and feedback; sites come and go.

What is real in it are the mechanisms, the same functions that `hanse market` runs: auction, Shapley values, pot,
and the bandit that learns the reserve price. What is *not* is the training: a period's score is ``base + (top -
base) P / (P + P0)`` with the true precisions of the sites that take part, plus the noise of a validation set. A
site's quality (the share of its certified precision that it really brings) is hidden; the coordinator learns it
from contributions and values the next bid by it. Sites bid their cost, which is their best bid.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from common.errors import BadInput
from server.economics.auction import Bid, Call, Outcome, run_auction
from server.economics.games import Coalition, Game
from server.economics.rewards import share_pot
from server.economics.selection import Arm, SelectionPlan, SelectionState, Turn, choose, observe, start
from server.economics.shapley import MOST_EXACT_SITES, shapley
from server.economics.weighting import gap_closed, precision

__all__ = ["Economy", "Period", "simulate_economy", "summary"]

_SHRINK = Fraction(1, 10**6)


@dataclass(frozen=True)
class Economy:
    """What is fixed before the first period. Money is in cents."""

    periods: int = 24
    seed: int = 0
    founders: int = 6
    """Sites at the start."""
    entry: float = 0.3
    """Chance in a period that a site comes."""
    patience: int = 3
    """A site that was not chosen in so many periods running leaves."""
    budget_cents: int = 100_000
    """Most that one auction may pay."""
    funds_cents: int = 1_000_000
    """What the coordinator has at first; it grows by revenue and never falls below 0."""
    revenue_cents: int = 400_000
    """Earned in a period by a model that closes the whole gap."""
    bonus: float = 0.25
    """Share of a period's revenue that is the pot for contributions; fixed in the plan, whatever the bids."""
    feedback: bool = True
    """Whether bids are valued by what a site's past contributions say of its quality."""
    public_precision: float = 500.0
    noise_constant: float = 20_000.0
    base: float = 0.5
    top: float = 0.9
    validation_rows: int = 2000
    """Of the set that the score is measured on."""

    def __post_init__(self) -> None:
        if min(self.periods, self.founders, self.patience, self.validation_rows) < 1:
            raise BadInput("economy: periods, founders, patience and validation_rows must be at least 1")
        if not (0 <= self.entry <= 1 and 0 <= self.bonus <= 1 and 0 < self.base < self.top < 1):
            raise BadInput("economy: entry and bonus from 0 to 1, and 0 < base < top < 1")
        if min(self.budget_cents, self.funds_cents, self.revenue_cents) < 1 or self.public_precision <= 0:
            raise BadInput("economy: budget, funds, revenue and public_precision must be above 0")


@dataclass(frozen=True)
class _Site:
    name: str
    size: int
    epsilon: float
    cost: int
    quality: float
    """Hidden from the coordinator."""
    believed: float = 1.0
    idle: int = 0


@dataclass(frozen=True)
class Period:
    """What happened in one period; money in cents."""

    period: int
    entered: tuple[str, ...]
    left: tuple[str, ...]
    present: int
    reserve: str
    """Which offer the coordinator tried; "" where it sat out."""
    winners: tuple[str, ...]
    payments: Mapping[str, int]
    bonuses: Mapping[str, int]
    contributions: Mapping[str, float]
    score: float
    """Measured; the base score where nobody trained."""
    revenue: int
    funds: int
    """After the period."""
    surplus: Mapping[str, int]
    """Of each winner: payment and bonus less its cost."""


@dataclass
class _State:
    economy: Economy
    chooser: np.random.Generator
    plan: SelectionPlan
    learnt: SelectionState
    funds: int
    sites: dict[str, _Site] = field(default_factory=dict)
    named: int = 0


_RESERVES = {"low": Fraction(15), "middle": Fraction(30), "high": Fraction(60)}
"""Cents for a unit of value that the coordinator may offer at most."""


def simulate_economy(economy: Economy) -> list[Period]:
    """Run all periods; the same economy gives the same periods."""
    arms = tuple(Arm(name, (float(economy.budget_cents),)) for name in _RESERVES)
    plan = SelectionPlan(
        arms, economy.periods, (float(economy.budget_cents) * economy.periods,), seed=economy.seed
    )
    chooser = np.random.default_rng(economy.seed)
    state = _State(economy, chooser, plan, start(plan), economy.funds_cents)
    for _ in range(economy.founders):
        _enter(state)
    return [_period(state, number) for number in range(1, economy.periods + 1)]


def summary(periods: list[Period]) -> dict[str, float]:
    """Figures of a whole economy: scores early and late, money, and how often members changed."""
    third = max(1, len(periods) // 3)
    return {
        "periods": len(periods),
        "score_first_third": statistics.fmean(each.score for each in periods[:third]),
        "score_last_third": statistics.fmean(each.score for each in periods[-third:]),
        "paid_cents": sum(sum(each.payments.values()) for each in periods),
        "bonus_cents": sum(sum(each.bonuses.values()) for each in periods),
        "revenue_cents": sum(each.revenue for each in periods),
        "funds_cents": periods[-1].funds if periods else 0,
        "entered": sum(len(each.entered) for each in periods),
        "left": sum(len(each.left) for each in periods),
        "changed_winners": sum(set(one.winners) != set(two.winners) for one, two in pairwise(periods)),
    }


def _enter(state: _State) -> str:
    state.named += 1
    name = f"site-{state.named:03d}"
    size = int(np.clip(state.chooser.lognormal(7.5, 0.7), 200, 20_000))
    epsilon = float(state.chooser.choice([1.0, 2.0, 4.0, 8.0]))
    cost = int(state.chooser.lognormal(9.4, 0.5) * (0.5 + epsilon / 8))
    quality = float(np.clip(state.chooser.beta(4, 1.5), 0.02, 1.0))
    state.sites[name] = _Site(name, size, epsilon, cost, quality)
    return name


def _period(state: _State, number: int) -> Period:
    entered = (_enter(state),) if state.chooser.random() < state.economy.entry else ()
    present = len(state.sites)
    arm = choose(state.plan, state.learnt)
    reserve = "" if isinstance(arm, Turn) else state.plan.arms[arm].name
    outcome = _auction(state, reserve)
    winners = tuple(sorted(award.bid.site for award in outcome.awards))
    payments = {award.bid.site: award.cents for award in outcome.awards}
    worth = _worth(state, winners, {name: state.sites[name].quality for name in winners})
    noise = state.chooser.normal(0.0, 0.5 / math.sqrt(state.economy.validation_rows))
    score = worth(frozenset(winners)) + (float(noise) if winners else 0.0)
    contributions = shapley(Game(winners, worth)) if winners else {}
    revenue = int(state.economy.revenue_cents * _closed(state.economy, score))
    bonuses = _bonuses(state, revenue, contributions)
    state.funds += revenue - sum(payments.values()) - sum(bonuses.values())
    _learn(state, arm, revenue - sum(bonuses.values()), sum(payments.values()))
    if state.economy.feedback:
        _believe(state, winners, contributions)
    surplus = {name: payments[name] + bonuses.get(name, 0) - state.sites[name].cost for name in winners}
    left = _leave(state, winners)
    return Period(
        number, entered, left, present, reserve, winners, payments, bonuses, contributions, score, revenue,
        state.funds, surplus,
    )  # fmt: skip


def _auction(state: _State, reserve: str) -> Outcome:
    budget = min(state.economy.budget_cents, state.funds)
    bids = [
        Bid(
            site.name, site.cost, _value(state.economy, site) * max(Fraction(site.believed), _SHRINK), site.epsilon
        )
        for site in state.sites.values()
    ]
    if not reserve or not bids:
        return Outcome((), Fraction(0), void=False)
    found = run_auction(bids, Call(budget, _RESERVES[reserve]))
    if len(found.awards) <= MOST_EXACT_SITES:
        return found
    # Contributions are exact in this economy: buy no more than can be valued.
    kept = {award.bid.site for award in found.awards[:MOST_EXACT_SITES]}
    return run_auction([bid for bid in bids if bid.site in kept], Call(budget, _RESERVES[reserve]))


def _value(economy: Economy, site: _Site) -> Fraction:
    return precision(site.size, site.epsilon, 1.0, economy.noise_constant)


def _worth(state: _State, winners: tuple[str, ...], quality: Mapping[str, float]) -> _Worth:
    economy = state.economy
    values = {name: float(_value(economy, state.sites[name])) * quality[name] for name in winners}
    return _Worth(economy, values)


@dataclass(frozen=True)
class _Worth:
    """Score of a coalition's model, before the noise of measuring."""

    economy: Economy
    values: Mapping[str, float]

    def __call__(self, coalition: Coalition) -> float:
        total = math.fsum(self.values[name] for name in sorted(coalition))
        economy = self.economy
        return economy.base + (economy.top - economy.base) * gap_closed(total, economy.public_precision)


def _closed(economy: Economy, score: float) -> float:
    return min(1.0, max(0.0, (score - economy.base) / (economy.top - economy.base)))


def _bonuses(state: _State, revenue: int, contributions: Mapping[str, float]) -> dict[str, int]:
    pot = int(state.economy.bonus * revenue)
    return dict(share_pot(pot, contributions).parts) if contributions else {}


def _learn(state: _State, arm: int | Turn, kept: int, paid: int) -> None:
    """Reward of a reserve: what the period left of the most that it could have."""
    reward = min(1.0, max(0.0, (kept - paid) / state.economy.revenue_cents))
    costs = () if isinstance(arm, Turn) else (float(paid),)
    state.learnt = observe(state.plan, state.learnt, arm, 0.0 if isinstance(arm, Turn) else reward, costs)


def _believe(state: _State, winners: tuple[str, ...], contributions: Mapping[str, float]) -> None:
    """Move what is believed of each winner's quality half way to what its contribution says."""
    if not winners:
        return
    believed = _worth(state, winners, {name: state.sites[name].believed for name in winners})
    expected = shapley(Game(winners, believed))
    for name in winners:
        site = state.sites[name]
        seen = site.believed * max(0.0, contributions[name]) / expected[name] if expected[name] > 0 else 0.0
        state.sites[name] = replace(site, believed=min(1.0, max(0.01, 0.5 * site.believed + 0.5 * seen)))


def _leave(state: _State, winners: tuple[str, ...]) -> tuple[str, ...]:
    """Sites that were not chosen for too long leave."""
    gone = []
    for name, site in list(state.sites.items()):
        idle = 0 if name in winners else site.idle + 1
        state.sites[name] = replace(site, idle=idle)
        if idle >= state.economy.patience:
            gone.append(name)
            del state.sites[name]
    return tuple(gone)
