"""Banzhaf values by regression: exact for additive games, near for others, at a fraction of the evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from server.economics.banzhaf_estimate import estimate_banzhaf
from server.economics.games import Coalition, Game
from server.economics.shapley import banzhaf

SITES = [f"s{i:02d}" for i in range(12)]
WORTH = dict(zip(SITES, np.linspace(-0.5, 2.0, 12).tolist(), strict=True))


def concave(coalition: Coalition) -> float:
    """Diminishing returns; one site harms."""
    return float(np.log1p(max(0.0, 1.0 + sum(WORTH[site] for site in coalition))))


def test_an_additive_game_is_met_exactly() -> None:
    game = Game(SITES, lambda coalition: 3.0 + sum(WORTH[site] for site in coalition))
    assert estimate_banzhaf(game, 60, 0) == pytest.approx(WORTH, abs=1e-9)
    assert game.evaluations <= 120


def test_a_concave_game_is_met_within_a_few_hundredths() -> None:
    exact = banzhaf(Game(SITES, concave), most_sites=12)
    for seed in range(5):
        found = estimate_banzhaf(Game(SITES, concave), 60, seed)
        assert max(abs(found[site] - exact[site]) for site in SITES) < 0.06
