"""A model instead of money: who contributed less gets a weaker one (Sim et al. 2020).

Site i is given a model worth ``r_i = (phi_i / phi_max)^rho (v(N) - v(nobody))``, by noise or fewer rounds. At
rho = 1 rewards are proportional to contributions, towards 0 everybody gets the best model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from common.errors import BadInput
from server.economics.shapley import Contributions

__all__ = ["largest_rational_rho", "model_rewards"]


def model_rewards(contributions: Contributions, gain: float, rho: float) -> dict[str, float]:
    """What the model that each site is given is worth above the public one, in the game's utility.

    Args:
        contributions: Shapley values, all positive.
        gain: v(N) - v(nobody), greater than 0.
        rho: between 0 and 1.

    Raises:
        BadInput: a number out of its range.
    """
    _check(contributions)
    if not (0 <= rho <= 1 and gain > 0):
        raise BadInput(f"model_rewards: rho = {rho}, gain = {gain}: between 0 and 1, and greater than 0")
    largest = max(contributions.values())
    return {site: (value / largest) ** rho * gain for site, value in contributions.items()}


def largest_rational_rho(contributions: Contributions, alone: Mapping[str, float], gain: float) -> float:
    """The largest rho, at most 1, at which no site gets less than it would reach alone.

    ``min_i log(alone_i / gain) / log(phi_i / phi_max)`` over the sites below the best.

    Args:
        contributions: Shapley values, all positive.
        alone: v({i}) - v(nobody) of each site.
        gain: v(N) - v(nobody).

    Raises:
        BadInput: a contribution is not positive, or a site alone reaches more than all together.
    """
    _check(contributions)
    above = sorted(site for site in contributions if alone[site] > gain)
    if above:
        raise BadInput(f"model_rewards: {above} reach more alone than all together; no model rewards them")
    largest = max(contributions.values())
    bounds = [
        math.log(alone[site] / gain) / math.log(value / largest)
        for site, value in contributions.items()
        if value < largest and alone[site] > 0
    ]
    return min([1.0, *bounds])


def _check(contributions: Contributions) -> None:
    if not contributions or min(contributions.values()) <= 0:
        raise BadInput("model_rewards: needs contributions, all greater than 0; leave out sites that harm")
