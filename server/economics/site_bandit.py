"""Which sites a round asks, learnt within one study: upper confidence bounds on help for epsilon.

A site's reward in a round is what the round's model would have lost without its update, on the public validation
set, over the mean of that round's amounts: so rewards of early and late rounds, whose gains differ a
hundredfold, compare, and one that harms is negative. The index ``mean + width sqrt(ln t / pulls)`` (Auer et al.
2002) is divided by the site's relative price in epsilon where it is positive. Everything is a function of seed
and history: what was measured comes from updates that are private already, and from public data.

Tens of rounds teach little: it tells a site that harms from one that helps, not the second best from the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["WIDTH", "AskedRound", "best_sites", "drawn_sites", "round_rewards"]

WIDTH = 0.5
"""Of the confidence bound, in units of a reward."""

_LARGEST = 3.0


@dataclass(frozen=True)
class AskedRound:
    """Whom a round asked, and what came of it."""

    round: int
    asked: tuple[str, ...]
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Of the sites that replied; empty before the round has ended, or where rewards are not measured."""


def drawn_sites(sites: Sequence[str], count: int, seed: int, round_number: int) -> tuple[str, ...]:
    """``count`` sites by a public lot of seed and round, in the order of ``sites``; it claims no privacy."""
    lot = np.random.default_rng([seed, round_number])
    chosen = {sites[index] for index in lot.choice(len(sites), size=count, replace=False)}
    return tuple(site for site in sites if site in chosen)


def best_sites(
    prices: Mapping[str, float], count: int, seed: int, history: Sequence[AskedRound]
) -> tuple[str, ...]:
    """``count`` sites of the highest index; each once before any is asked for the sake of its record.

    Args:
        prices: epsilon of each site over the study, in the sites' order.
        count: how many.
        seed: breaks ties, by the lot of the round.
        history: the rounds before.
    """
    number = history[-1].round + 1 if history else 1
    lot = np.random.default_rng([seed, number]).permutation(len(prices))
    mean_price = math.fsum(prices.values()) / len(prices)
    pulls = math.fsum(len(each.asked) for each in history)

    def index(site: str) -> float:
        rewards = [each.rewards.get(site, 0.0) for each in history if site in each.asked]
        if not rewards:
            return math.inf
        bound = math.fsum(rewards) / len(rewards) + WIDTH * math.sqrt(math.log(pulls) / len(rewards))
        return bound / (prices[site] / mean_price) if bound > 0 else bound

    order = dict(zip(prices, lot.tolist(), strict=True))
    chosen = sorted(prices, key=lambda site: (-index(site), order[site]))[:count]
    return tuple(site for site in prices if site in chosen)


def round_rewards(whole: float, without: Mapping[str, float]) -> dict[str, float]:
    """Rewards of a round from the utility of its model and of the models without each site."""
    lost = {site: whole - value for site, value in without.items()}
    scale = math.fsum(abs(value) for value in lost.values()) / max(1, len(lost))
    if scale == 0:
        return dict.fromkeys(lost, 0.0)
    return {site: max(-_LARGEST, min(_LARGEST, value / scale)) for site, value in lost.items()}
