"""What each site adds to a game, exactly: Shapley and its relatives, from all ``2^n`` coalitions.

Every value here averages marginals ``v(S + i) - v(S)`` over the coalitions S without i, with weights ``p_s`` that
depend on the size of S alone. They differ in what they promise:

============== ============== ============================================================================
value          sums to v(N)?  use
============== ============== ============================================================================
Shapley        yes            sharing a pot (Shapley 1953); rewards replicas of one site, see ``owen``
Banzhaf        no             an ordering that is robust to noise in v (Wang & Jia 2023)
leave-one-out  no             a cheap look; gives substitutes about 0, so it must not share a pot
Beta(a, b)     no             looks at small coalitions for a > b (Kwon & Zou 2022)
============== ============== ============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from scipy.special import beta

from common.errors import BadInput
from server.economics.games import Game, subsets

__all__ = [
    "MOST_EXACT_SITES",
    "Contributions",
    "banzhaf",
    "beta_shapley",
    "exact_evaluations",
    "leave_one_out",
    "shapley",
]

Contributions: TypeAlias = Mapping[str, float]
"""Site to its value, in the unit of the game's utility; negative if the site harms."""

MOST_EXACT_SITES = 10
"""Sites up to which exact values are given unless the caller raises it: 1,024 evaluations."""


def exact_evaluations(sites: int) -> int:
    """Evaluations that exact values of that many sites need, nobody's included; tell them before the start."""
    return int(2**sites)


def shapley(game: Game, most_sites: int = MOST_EXACT_SITES) -> dict[str, float]:
    """Shapley value of each site: the one value that is efficient, symmetric, null-player and linear.

    Symmetric sites get equal floats (sums are correctly rounded), so that no rounding decides a cent.

    Raises:
        BadInput: more than ``most_sites`` sites.
    """
    n = len(game.sites)
    return _semivalue(game, [1 / (n * math.comb(n - 1, size)) for size in range(n)], most_sites)


def banzhaf(game: Game, most_sites: int = MOST_EXACT_SITES) -> dict[str, float]:
    """Banzhaf value: the mean marginal over all coalitions. Do not normalise it into shares of a pot.

    Raises:
        BadInput: more than ``most_sites`` sites.
    """
    n = len(game.sites)
    return _semivalue(game, [2.0 ** (1 - n)] * n, most_sites)


def beta_shapley(game: Game, a: float, b: float, most_sites: int = MOST_EXACT_SITES) -> dict[str, float]:
    """Beta(a, b)-Shapley, ``p_s = B(s + b, n - 1 - s + a) / B(a, b)``; Beta(1, 1) is Shapley.

    Raises:
        BadInput: a or b is not positive, or more than ``most_sites`` sites.
    """
    if not (a > 0 and b > 0):
        raise BadInput(f"beta_shapley: a, b = {a}, {b}: both must be greater than 0")
    n = len(game.sites)
    weights = [float(beta(size + b, n - 1 - size + a) / beta(a, b)) for size in range(n)]
    return _semivalue(game, weights, most_sites)


def leave_one_out(game: Game) -> dict[str, float]:
    """``v(N) - v(N without i)``: n + 1 evaluations, any number of sites. Not efficient."""
    whole, *without = game.values([game.everybody, *(game.everybody - {site} for site in game.sites)])
    return {site: whole - value for site, value in zip(game.sites, without, strict=True)}


def _semivalue(game: Game, weights: Sequence[float], most_sites: int) -> dict[str, float]:
    n = len(game.sites)
    if n > most_sites:
        raise BadInput(
            f"sites = {n}: exact values need {exact_evaluations(n)} evaluations; at most {most_sites} sites, "
            "estimate above that"
        )
    values = game.values(subsets(game.sites))
    found = {}
    for index, site in enumerate(game.sites):
        bit = 1 << index
        found[site] = math.fsum(
            weights[mask.bit_count()] * (values[mask | bit] - values[mask])
            for mask in range(len(values))
            if not mask & bit
        )
    return found
