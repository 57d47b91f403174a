"""Banzhaf values estimated from random coalitions, for more sites than can be enumerated.

The coefficients of the best linear approximation of a game under the uniform distribution over coalitions are
its Banzhaf values (Hammer & Holzman 1992). Fitted by least squares on coalitions drawn uniformly, which come in
pairs with their complements.
"""

from __future__ import annotations

import numpy as np

from server.economics.games import Coalition, Game

__all__ = ["estimate_banzhaf"]


def estimate_banzhaf(game: Game, pairs: int, seed: int) -> dict[str, float]:
    """Banzhaf value of each site from ``2 * pairs`` coalitions; no interval is claimed.

    Exact for a game that is additive, once the coalitions drawn span it.
    """
    chooser = np.random.default_rng([seed, len(game.sites)])
    half = chooser.integers(0, 2, (pairs, len(game.sites))).astype(bool)
    members = np.concatenate([half, ~half])
    coalitions: list[Coalition] = [
        frozenset(site for site, member in zip(game.sites, row, strict=True) if member) for row in members
    ]
    values = np.asarray(game.values(coalitions))
    columns = np.column_stack([members - 0.5, np.ones(len(members))])
    fitted, *_ = np.linalg.lstsq(columns, values, rcond=None)
    return {site: float(value) for site, value in zip(game.sites, fitted, strict=False)}
