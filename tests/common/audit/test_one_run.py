"""One-run audits: golden values, exact rationals, soundness in simulation, and what refutes what.

Golden values and simulation figures come from an independent script outside this project (fixed seeds).
"""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit.one_run import Guesses, ceiling, count_guesses, one_run_epsilon, one_run_p_value
from common.audit.one_run_trade_off import one_run_mu, refutes
from common.audit.trade_off import GaussianCurve, ProfileCurve, curve_of
from common.errors import BadInput
from common.privacy.mechanism import Gaussian

GOLDEN = [
    (1000, 1000, 500, 1e-5, 0.95, 0, 0),
    (1000, 1000, 600, 0.0, 0.95, 0.29747, 0.1638),
    (1000, 1000, 600, 1e-5, 0.95, 0.29723, 0.1638),
    (1000, 1000, 900, 1e-5, 0.95, 2.02065, 0.8804),
    (1000, 100, 95, 1e-5, 0.95, 2.16518, 0.7867),
    (1000, 100, 100, 0.0, 0.95, 3.49297, 1.2255),
    (1000, 100, 100, 1e-5, 0.95, 3.46538, 1.2255),
    (1000, 600, 600, 1e-5, 0.95, 5.27040, 2.0834),
    (100, 100, 100, 1e-5, 0.95, 3.49022, 1.7031),
    (10000, 400, 390, 1e-5, 0.99, 2.75013, 0.8573),
    (1000, 50, 50, 1e-3, 0.95, 0, 0.9373),
]


@pytest.mark.parametrize(("m", "r", "v", "delta", "confidence", "epsilon", "mu"), GOLDEN)
def test_golden_bounds(m: int, r: int, v: int, delta: float, confidence: float, epsilon: float, mu: float) -> None:
    guesses = Guesses(m, r, v)
    assert one_run_epsilon(guesses, delta, confidence) == pytest.approx(epsilon, abs=1e-5)
    # The source gives mu to 4 digits, cut off, after a coarser search.
    assert one_run_mu(guesses, confidence) == pytest.approx(mu, abs=1.2e-4)


def test_the_p_value_in_exact_rationals() -> None:
    """M = 12, r = 10, v = 8, eps = ln 3, delta = 1e-3: p = 3/4, all in fractions."""
    found = one_run_p_value(Guesses(12, 10, 8), math.log(3), 1e-3)
    p = Fraction(3, 4)
    mass = [comb(10, k) * p**k * (1 - p) ** (10 - k) for k in range(11)]
    alpha = max(Fraction(2, i) * sum(mass[8 - i : 8], Fraction(0)) for i in range(1, 9))
    exact = sum(mass[8:], Fraction(0)) + alpha * 12 * Fraction(1, 1000)
    assert found == pytest.approx(float(exact), abs=1e-12)
    assert found == pytest.approx(0.5315995788574219, abs=1e-12)


@pytest.mark.parametrize(("m", "value"), [(100, 3.49), (300, 4.59), (1000, 5.78), (3000, 6.83), (10000, 7.83)])
def test_the_ceiling(m: int, value: float) -> None:
    assert ceiling(m, 1e-5) == pytest.approx(value, abs=0.0051)
    share = 0.05 ** (1 / m)
    assert ceiling(m, 0.0) == pytest.approx(math.log(share / (1 - share)), abs=1e-6)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 200), st.floats(0, 8), st.floats(0, 0.01))
def test_the_p_value_rises_with_epsilon_and_delta(m: int, r: int, v: int, epsilon: float, delta: float) -> None:
    r = min(r, m)
    guesses = Guesses(m, r, min(v, r))
    found = one_run_p_value(guesses, epsilon, delta)
    assert 0 <= found <= 1
    assert one_run_p_value(guesses, epsilon + 0.1, delta) >= found - 1e-12
    assert one_run_p_value(guesses, epsilon, delta + 0.001) >= found - 1e-12


def _randomized_response(epsilon: float, m: int, runs: int, seed: int) -> list[float]:
    """Bounds from runs in which every bit is told truly with probability e^eps / (1 + e^eps)."""
    draw = np.random.default_rng(seed)
    right = draw.binomial(m, 1 / (1 + math.exp(-epsilon)), runs)
    known = {int(v): one_run_epsilon(Guesses(m, m, int(v)), 0.0) for v in set(right.tolist())}
    return [known[int(v)] for v in right]


@pytest.mark.parametrize(
    ("epsilon", "m", "median"), [(0.5, 100, 0.133), (2.0, 100, 1.469), (1.0, 1000, 0.881), (4.0, 1000, 3.601)]
)
def test_randomized_response_is_bounded_soundly_and_closely(epsilon: float, m: int, median: float) -> None:
    """4,000 runs; a sound 95 % bound is too high in at most 240 of them but for one chance in 1,000."""
    bounds = _randomized_response(epsilon, m, 4000, 7)
    assert sum(bound > epsilon for bound in bounds) <= 240
    assert float(np.median(bounds)) == pytest.approx(median, abs=0.05)


def test_all_bits_shown_with_small_probability_need_delta() -> None:
    """(1, .04)-private by showing all 50 bits with probability .04: delta ignored, the bound is too often high."""
    draw = np.random.default_rng(3)
    right = np.where(draw.random(4000) < 0.04, 50, draw.binomial(50, 1 / (1 + math.exp(-1)), 4000))
    outcomes, times = np.unique(right, return_counts=True)
    ignored = [one_run_epsilon(Guesses(50, 50, int(v)), 0.0) > 1 for v in outcomes]
    assert times[ignored].sum() > 0.05 * 4000
    assert not any(one_run_epsilon(Guesses(50, 50, int(v)), 0.04) > 1 for v in outcomes)


def _gaussian_canaries(mu: float, m: int, r: int, draw: np.random.Generator) -> Guesses:
    included = draw.random(m) < 0.5
    return count_guesses(included * mu + draw.normal(size=m), included, r // 2, r - r // 2)


def test_the_trade_off_bound_is_sound_and_beats_the_other_for_gaussian_noise() -> None:
    """400 runs at mu = 1, r = 100; a sound 95 % bound is too high in at most 35 but for one chance in 1,000."""
    draw = np.random.default_rng(5)
    runs = [_gaussian_canaries(1.0, 1000, 100, draw) for _ in range(400)]
    assert sum(refutes(guesses, GaussianCurve(1.0)) for guesses in runs) <= 35
    assert float(np.median([one_run_mu(guesses) for guesses in runs[:60]])) == pytest.approx(0.602, abs=0.06)


def test_less_noise_than_claimed_is_refuted() -> None:
    """Negative control: mu = 4 shown where mu = 1 is claimed, by curve and by its profile."""
    draw = np.random.default_rng(6)
    claimed = curve_of(Gaussian(1.0, 1))
    for _ in range(20):
        guesses = _gaussian_canaries(4.0, 1000, 100, draw)
        assert refutes(guesses, GaussianCurve(1.0))
        assert refutes(guesses, claimed)
        assert one_run_epsilon(guesses, 1e-5) > 2


def test_a_profile_of_a_gaussian_refutes_nearly_what_the_gaussian_does() -> None:
    guesses = Guesses(1000, 100, 95)
    exact = one_run_mu(guesses)
    assert refutes(guesses, curve_of(Gaussian(1 / (exact - 2e-3), 1)))
    assert not refutes(guesses, curve_of(Gaussian(1 / exact, 1)))


def test_no_claim_at_all_is_never_refuted() -> None:
    assert not refutes(Guesses(1000, 1000, 1000), ProfileCurve((0.0,), (1.0,)))


def test_guesses_are_counted_from_both_ends() -> None:
    scores = [0.9, 0.1, 0.8, 0.2, 0.5]
    included = [True, False, False, True, True]
    assert count_guesses(scores, included, 2, 1) == Guesses(5, 3, 2)
    assert count_guesses(scores, included, 0, 2) == Guesses(5, 2, 1)
    assert count_guesses(scores, included, 0, 0) == Guesses(5, 0, 0)


def test_random_scores_are_right_half_of_the_time() -> None:
    """Ties carry nothing: all scores equal, 10,000 canaries; off by more than 4 deviations once in 16,000."""
    included = np.random.default_rng(8).random(10_000) < 0.5
    guesses = count_guesses(np.zeros(10_000), included, 5000, 5000)
    assert abs(guesses.right - 5000) < 200


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Guesses(10, 11, 5),
        lambda: Guesses(10, 5, 6),
        lambda: count_guesses([1.0], [True], 1, 1),
        lambda: count_guesses([math.nan], [True], 1, 0),
        lambda: count_guesses([1.0, 2.0], [True], 1, 0),
        lambda: one_run_p_value(Guesses(1, 1, 1), -1.0, 0.0),
        lambda: one_run_epsilon(Guesses(1, 1, 1), 0.0, 1.0),
    ],
)
def test_the_impossible_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(BadInput):
        wrong()
