"""Sharing what a consortium earns: a pot in whole cents to payouts in whole cents, exactly.

All arithmetic is rational. A site's part is ``clip(t w_i, floor_i, cap_i)`` with the one t at which the parts
sum to the pot; then parts are rounded down and the missing cents go to the largest remainders. Rounding cannot
pass a floor or cap, since both are whole cents.

A pot must be fixed in the plan and must not depend on bids: then the auction's payments stay truthful but for the
expected bonus, which a bid takes into account.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from common.errors import BadInput
from server.economics.shapley import Contributions

__all__ = [
    "WHOLE_MODEL",
    "Allocation",
    "Limits",
    "Policy",
    "Weight",
    "ownership",
    "policy_weights",
    "rational_limits",
    "share_pot",
]

Weight: TypeAlias = float | Fraction
"""How much of a pot a site is due relative to others; exact where it is a fraction."""

WHOLE_MODEL = 1_000_000
"""Ownership is counted in millionths of the model."""


class Policy(StrEnum):
    """What a site's part of the pot is proportional to."""

    SHAPLEY = "shapley"
    """Its contribution, where positive."""
    EQUAL = "equal"
    """Nothing: all the same."""
    SIZE = "size"
    """Its declared size. Does not measure what a site brings: mislabelled rows count in full."""


@dataclass(frozen=True)
class Limits:
    """The least and the most that one site gets, in whole cents."""

    floor: int = 0
    cap: int | None = None
    """None: no limit."""


@dataclass(frozen=True)
class Allocation:
    """Who gets how much of a whole, in whole parts (cents, or millionths)."""

    whole: int
    parts: Mapping[str, int]
    """By site in ascending order of names; each at least 0."""
    kept: int
    """Paid to nobody, because caps bind everyone or nobody contributed; parts and kept sum to the whole."""

    def fraction_of(self, site: str) -> Fraction:
        """A site's part of the whole."""
        return Fraction(self.parts[site], self.whole) if self.whole else Fraction(0)


def policy_weights(
    policy: Policy, sites: Iterable[str], contributions: Contributions | None, sizes: Mapping[str, int] | None
) -> dict[str, Weight]:
    """The weight of each site under a policy.

    Raises:
        BadInput: the policy needs contributions or sizes and a site has none.
    """
    names = sorted(sites)
    if policy is Policy.EQUAL:
        return dict.fromkeys(names, 1.0)
    given: Mapping[str, float] = (contributions if policy is Policy.SHAPLEY else sizes) or {}
    missing = [name for name in names if name not in given]
    if missing:
        kind = "contribution" if policy is Policy.SHAPLEY else "declared size"
        raise BadInput(f"rewards.policy = {policy}: no {kind} is known of {missing}")
    return {name: given[name] for name in names}


def share_pot(pot: int, weights: Mapping[str, Weight], limits: Mapping[str, Limits] | None = None) -> Allocation:
    """Share ``pot`` cents by weight, within each site's limits.

    Guaranteed: parts and what is kept sum to the pot; floor <= part <= cap; a site of weight 0 or less gets its
    floor; with equal limits a larger weight never gets less; the order in which sites are given does not matter.
    Of equal remainders the lower name gets the cent.

    Args:
        pot: whole cents, at least 0.
        weights: such as Shapley values; negative ones count as 0.
        limits: of sites that have any.

    Raises:
        BadInput: the pot is negative, a weight is not finite, limits contradict each other or name nobody, or the
            floors exceed the pot.
    """
    bounds = _checked(pot, weights, limits or {})
    positive = {site: max(Fraction(weights[site]), Fraction(0)) for site in bounds}
    scale = _scale(pot, positive, bounds)
    exact = {site: _clip(positive[site], scale, bounds[site]) for site in bounds}
    parts = {site: math.floor(part) for site, part in exact.items()}
    missing = math.floor(sum(exact.values(), Fraction(0))) - sum(parts.values())
    by_remainder = sorted(parts, key=lambda site: (parts[site] - exact[site], site))
    for site in by_remainder[:missing]:
        parts[site] += 1
    return Allocation(pot, parts, pot - sum(parts.values()))


def rational_limits(costs: Mapping[str, int], limits: Mapping[str, Limits] | None = None) -> dict[str, Limits]:
    """Limits under which nobody is paid less than its accepted cost: floors raised to the costs.

    A share by contribution alone is not individually rational. Costs must be accepted beforehand (the auction's),
    not reported afterwards, or they would be overstated.

    Raises:
        BadInput: a cost is negative or above the site's cap.
    """
    found = dict(limits or {})
    for site, cost in costs.items():
        old = found.get(site, Limits())
        found[site] = Limits(max(old.floor, cost), old.cap)
        if cost < 0 or (old.cap is not None and cost > old.cap):
            raise BadInput(f"cost of {site} = {cost} cents: must be at least 0 and at most its cap, {old.cap}")
    return found


def ownership(contributions: Contributions) -> Allocation:
    """Shares of the model in millionths, by positive contribution; all kept in common if nobody has one."""
    return share_pot(WHOLE_MODEL, contributions)


def _checked(pot: int, weights: Mapping[str, Weight], limits: Mapping[str, Limits]) -> dict[str, Limits]:
    if pot < 0:
        raise BadInput(f"pot = {pot} cents: must be at least 0")
    strangers = sorted(limits.keys() - weights.keys())
    if strangers:
        raise BadInput(f"limits: {strangers} are not among the sites {sorted(weights)}")
    bounds = {site: limits.get(site, Limits()) for site in sorted(weights)}
    for site, bound in bounds.items():
        if isinstance(weights[site], float) and not math.isfinite(weights[site]):
            raise BadInput(f"weight of {site} = {weights[site]}: must be a finite number")
        if bound.floor < 0 or (bound.cap is not None and bound.floor > bound.cap):
            raise BadInput(f"limits of {site}: floor = {bound.floor}, cap = {bound.cap}: needs 0 <= floor <= cap")
    floors = sum(bound.floor for bound in bounds.values())
    if floors > pot:
        raise BadInput(f"pot = {pot} cents: less than the floors, {floors}; raise it or lower floors")
    return bounds


def _clip(weight: Fraction, scale: Fraction, bound: Limits) -> Fraction:
    """A site's part at a scale."""
    part = max(scale * weight, Fraction(bound.floor))
    return part if bound.cap is None else min(part, Fraction(bound.cap))


def _scale(pot: int, weights: Mapping[str, Fraction], bounds: Mapping[str, Limits]) -> Fraction:
    """The least t with ``sum clip(t w_i, floor_i, cap_i) = pot``; if the sum stays below, one where it is largest.

    The sum grows piecewise linearly in t, with knots where a site leaves its floor or meets its cap.
    """

    def total(t: Fraction) -> Fraction:
        return sum((_clip(weight, t, bounds[site]) for site, weight in weights.items()), Fraction(0))

    knots = {Fraction(0)}
    for site, weight in weights.items():
        if weight > 0:
            limits = (bounds[site].floor, bounds[site].cap)
            knots |= {Fraction(limit) / weight for limit in limits if limit is not None}
    ordered = sorted(knots)
    if total(ordered[0]) >= pot:
        return ordered[0]
    for low, high in pairwise(ordered):
        at_low, at_high = total(low), total(high)
        if at_high >= pot:
            return low + (pot - at_low) * (high - low) / (at_high - at_low)
    slope = sum((weight for site, weight in weights.items() if bounds[site].cap is None), Fraction(0))
    return ordered[-1] + (pot - total(ordered[-1])) / slope if slope else ordered[-1]
