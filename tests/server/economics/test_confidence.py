"""Half-widths: the worked numbers, and what they promise on samples of a known mean."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import BadInput
from server.economics.confidence import (
    bernstein_half_width,
    hoeffding_half_width,
    hoeffding_permutations,
    student_half_width,
)
from server.economics.games import subsets
from tests.server.economics.known_games import known

RANGE = 0.267941


def test_the_range_of_the_worked_game() -> None:
    game = known("federated")
    joins = [(s, site) for s in subsets(game.sites) for site in game.sites if site not in s]
    marginals = [game(s | {site}) - game(s) for s, site in joins]
    widest = max(
        max(m for m, (_, site) in zip(marginals, joins, strict=True) if site == one)
        - min(m for m, (_, site) in zip(marginals, joins, strict=True) if site == one)
        for one in game.sites
    )
    assert widest == pytest.approx(RANGE, abs=1e-6)


def test_the_worked_half_widths() -> None:
    # ECONOMICS section 1: M = 200, delta = 0.05
    assert hoeffding_permutations(RANGE, 0.005, 6, 0.95) == 7870
    assert hoeffding_half_width(RANGE, 200, 0.95) == pytest.approx(0.0257, abs=5e-5)
    deviation = 0.0075 / 1.96 * 200**0.5  # of the site whose normal half-width is 0.0075
    assert student_half_width(deviation, 200, 0.95) == pytest.approx(0.0075, rel=0.01)


def test_bernstein_is_the_formula_of_its_theorem() -> None:
    # by hand: ln 80 = 4.382027; sqrt(2 * 0.01 * 4.382027 / 100) + 7 * 4.382027 / (3 * 99)
    assert bernstein_half_width(0.1, 1.0, 100, 0.95) == pytest.approx(0.029604 + 0.103280, abs=1e-6)


def test_student_covers_the_mean_as_often_as_it_says() -> None:
    # 4000 means of 8 normals at 90 %: within 4 standard errors (0.0047 each), false alarm 1 in 16,000
    samples = np.random.default_rng(3).normal(size=(4000, 8))
    widths = [student_half_width(float(row.std(ddof=1)), 8, 0.9) for row in samples]
    covered = float(np.mean(np.abs(samples.mean(axis=1)) <= widths))
    assert covered == pytest.approx(0.9, abs=0.019)


def test_bounds_for_any_distribution_cover_far_more_often() -> None:
    # skewed: 1 with probability 0.05; a bound that broke its promise would miss more than 5 % of 2000
    samples = (np.random.default_rng(4).random((2000, 200)) < 0.05).astype(float)
    errors = np.abs(samples.mean(axis=1) - 0.05)
    assert np.mean(errors <= hoeffding_half_width(1.0, 200, 0.95)) > 0.95
    widths = [bernstein_half_width(float(row.std(ddof=1)), 1.0, 200, 0.95) for row in samples]
    assert np.mean(errors <= widths) > 0.95


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0])
def test_no_interval_without_a_confidence(confidence: float) -> None:
    with pytest.raises(BadInput, match="must be between 0 and 1"):
        student_half_width(1.0, 10, confidence)


def test_no_interval_from_one_sample() -> None:
    with pytest.raises(BadInput, match="samples = 1"):
        student_half_width(1.0, 1, 0.95)
