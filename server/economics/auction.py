"""Buying privacy: a sealed reverse auction with a budget (proportional share; Singer 2010, Chen et al. 2011).

Each site bids what it wants for taking part at its epsilon, which was fixed before; its value is public. Sites
are taken in ascending order of bid per value while the budget would pay all at the last one's ratio, and all
winners get one price per unit of value. That price is each winner's threshold, so bidding one's cost is a
dominant strategy (Myerson 1981), no winner is paid less than its bid, and payments stay within the budget. Not
proof against collusion, and only the cost is elicited: sizes must be certified and epsilons fixed beforehand.

Money is in integer cents and comparisons are exact; payments are rounded down, which keeps all three properties
for bids in whole cents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from common.errors import BadInput
from server.economics.weighting import inverse_variance_weights

__all__ = ["Award", "Bid", "Call", "Outcome", "PlannedSite", "planned_sites", "run_auction"]


@dataclass(frozen=True)
class Bid:
    """A site's sealed offer."""

    site: str
    cents: int
    """What it wants for taking part; at least 0."""
    value: Fraction
    """What its update is worth at its epsilon (``weighting.precision``); public, greater than 0."""
    epsilon: float
    """Fixed in the call, before bids."""


@dataclass(frozen=True)
class Call:
    """What the coordinator publishes before bids come in."""

    budget_cents: int
    reserve: Fraction | None = None
    """Most cents that a unit of value may cost; None: no limit."""
    min_sites: int = 1
    """With fewer winners nobody trains and nobody is paid."""

    def __post_init__(self) -> None:
        if self.budget_cents < 0 or self.min_sites < 1 or (self.reserve is not None and self.reserve < 0):
            raise BadInput(
                f"call: budget_cents, reserve, min_sites = {self.budget_cents}, {self.reserve}, {self.min_sites}: "
                "must be at least 0, 0 and 1"
            )


@dataclass(frozen=True)
class Award:
    """What a winner is due."""

    bid: Bid
    due: Fraction
    """Price times value, in cents, before rounding."""
    cents: int
    """What is paid: ``due`` rounded down; at least the bid."""


@dataclass(frozen=True)
class Outcome:
    """Who takes part and at what price. Publish price and winners; bids stay sealed."""

    awards: tuple[Award, ...]
    """In ascending order of bid per value."""
    price: Fraction
    """Cents per unit of value; 0 without winners."""
    void: bool
    """There would have been winners, but fewer than ``min_sites``."""

    @property
    def total_cents(self) -> int:
        """What all winners are paid together; at most the budget."""
        return sum(award.cents for award in self.awards)

    @property
    def value(self) -> Fraction:
        """Value bought."""
        return sum((award.bid.value for award in self.awards), Fraction(0))


@dataclass(frozen=True)
class PlannedSite:
    """A winner as the study plan names it: ``[[site]]`` takes name, epsilon and weight."""

    name: str
    epsilon: float
    weight: float
    """Share of the aggregate by inverse variance. With weights by size the purchase would be worth less."""
    payment_cents: int
    """To be paid on the settled ledger entry, pro rata if the site stops early."""


def run_auction(bids: Iterable[Bid], call: Call) -> Outcome:
    """Choose winners and the price. The order in which bids are given does not matter.

    Raises:
        BadInput: two bids of one site, a negative bid, or a value that is not positive.
    """
    eligible = _eligible(list(bids), call)
    count = _longest_affordable(eligible, call.budget_cents)
    winners = eligible[:count]
    if count < call.min_sites:
        return Outcome((), Fraction(0), void=count > 0)
    price = _price(winners, eligible[count:], call)
    awards = tuple(Award(bid, price * bid.value, math.floor(price * bid.value)) for bid in winners)
    return Outcome(awards, price, void=False)


def planned_sites(outcome: Outcome) -> tuple[PlannedSite, ...]:
    """The winners with their aggregation weights, for the study plan; empty without winners.

    In the order of names, which tells nothing of bids. Losers are not invited. The study's digest covers names,
    epsilons and weights.
    """
    if not outcome.awards:
        return ()
    weights = inverse_variance_weights({award.bid.site: award.bid.value for award in outcome.awards})
    return tuple(
        PlannedSite(award.bid.site, award.bid.epsilon, weights[award.bid.site], award.cents)
        for award in sorted(outcome.awards, key=lambda award: award.bid.site)
    )


def _eligible(bids: list[Bid], call: Call) -> list[Bid]:
    """Bids within budget and reserve, in ascending order of ratio, ties by the lower name."""
    if len({bid.site for bid in bids}) != len(bids):
        raise BadInput("bids: a site bids twice")
    for bid in bids:
        if bid.cents < 0 or bid.value <= 0:
            raise BadInput(f"bid of {bid.site}: {bid.cents} cents for {bid.value}: at least 0, and greater than 0")
    kept = [
        bid
        for bid in bids
        if bid.cents <= call.budget_cents and (call.reserve is None or bid.cents <= call.reserve * bid.value)
    ]
    return sorted(kept, key=lambda bid: (bid.cents / bid.value, bid.site))


def _longest_affordable(eligible: Sequence[Bid], budget: int) -> int:
    """Length of the longest prefix in which each site's ratio, paid to all up to it, is within the budget."""
    total = Fraction(0)
    for count, bid in enumerate(eligible):
        total += bid.value
        if bid.cents * total > budget * bid.value:
            return count
    return len(eligible)


def _price(winners: Sequence[Bid], rest: Sequence[Bid], call: Call) -> Fraction:
    """Each winner's threshold: the ratio at which it would first fail the budget, the order, or the reserve."""
    limits = [call.budget_cents / sum((bid.value for bid in winners), Fraction(0))]
    if rest:
        limits.append(rest[0].cents / rest[0].value)
    if call.reserve is not None:
        limits.append(call.reserve)
    return min(limits)
