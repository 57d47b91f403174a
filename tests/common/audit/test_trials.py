"""Bounds from independent trials, exact intervals, trade-off curves, the profile test, the component audit.

Golden values come from an independent script outside this project.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.audit.component import component_bound, planned_threshold
from common.audit.intervals import interval, lower_end, upper_end
from common.audit.trade_off import (
    GaussianCurve,
    ProfileCurve,
    curve_of,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    most_area,
)
from common.audit.trials import (
    Rule,
    Trials,
    best_rule,
    count_trials,
    epsilon_by_log_ratio,
    epsilon_lower_bound,
    mu_lower_bound,
    profile_test,
)
from common.errors import BadInput
from common.privacy.accounting import epsilon
from common.privacy.mechanism import Composition, Gaussian, NotPrivate, SampledGaussian

GOLDEN = [
    (1000, 10, 500, 3.2420, 2.0110, 10.065, 3.3919),
    (1000, 159, 159, 1.4951, 1.8068, 8.8272, 1.5439),
    (1000, 0, 900, 3.1044, 1.2889, 5.8883, math.nan),
    (10000, 1, 7000, 6.2585, 2.7096, 14.630, 6.3614),
    (1000, 0, 0, 5.6006, 5.3598, 36.490, math.nan),
    (100000, 15866, 15866, 1.6512, 1.9812, 9.8817, 1.6560),
    (200, 5, 60, 2.3982, 1.9126, 9.4634, 2.6019),
]


@pytest.mark.parametrize(("n", "fp", "fn", "by_ends", "mu", "by_mu", "by_ratio"), GOLDEN)
def test_golden_bounds(n: int, fp: int, fn: int, by_ends: float, mu: float, by_mu: float, by_ratio: float) -> None:
    trials = Trials(n, fp, n, fn)
    assert epsilon_lower_bound(trials, 1e-5) == pytest.approx(by_ends, abs=5.1e-5)
    assert mu_lower_bound(trials) == pytest.approx(mu, abs=5.1e-5)
    assert gaussian_epsilon(mu_lower_bound(trials), 1e-5) == pytest.approx(by_mu, abs=6e-4)
    assert epsilon_by_log_ratio(trials, 1e-5) == pytest.approx(by_ratio, abs=5.1e-5, nan_ok=True)


def test_the_ceiling_of_500_and_500_canaries() -> None:
    assert epsilon_lower_bound(Trials(500, 0, 500, 0), 1e-5) == pytest.approx(4.906, abs=5.1e-4)


def test_golden_intervals() -> None:
    for successes, trials, lower, upper in ((25, 10_000, 0.00162, 0.00369), (3, 1000, 0.00062, 0.00874)):
        found = interval(successes, trials)
        assert (found.lower, found.upper) == (pytest.approx(lower, abs=5.1e-6), pytest.approx(upper, abs=5.1e-6))
    assert interval(0, 10).lower == 0.0
    assert interval(10, 10).upper == 1.0


@settings(max_examples=30)
@given(st.integers(1, 100), st.floats(0.01, 0.99), st.floats(0.001, 0.2))
def test_the_upper_end_is_passed_with_at_most_the_stated_chance(n: int, p: float, error: float) -> None:
    missed = sum(float(stats.binom.pmf(k, n, p)) for k in range(n + 1) if upper_end(k, n, error) < p)
    assert missed <= error + 1e-12
    missed = sum(float(stats.binom.pmf(k, n, p)) for k in range(n + 1) if lower_end(k, n, error) > p)
    assert missed <= error + 1e-12


# --- trade-off curves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "mu", "area", "generic", "gaussian"),
    [
        (1, 0.26805, 0.5752, (0.00273, 0.02719, 0.27184), (0.00238, 0.01978, 0.15541)),
        (2, 0.50155, 0.6386, (0.00740, 0.07390, 0.73892), (0.00482, 0.03402, 0.21770)),
        (8, 1.66603, 0.8806, (0.99966, 0.99967, 0.99970), (0.07719, 0.25453, 0.64969)),
    ],
)
def test_golden_generic_and_gaussian_bounds(
    claimed: float, mu: float, area: float, generic: tuple[float, ...], gaussian: tuple[float, ...]
) -> None:
    assert gaussian_mu(claimed, 1e-5) == pytest.approx(mu, abs=5.1e-6)
    assert most_area(mu) == pytest.approx(area, abs=5.1e-5)
    pair, curve = ProfileCurve((claimed,), (1e-5,)), GaussianCurve(gaussian_mu(claimed, 1e-5))
    for rate, by_pair, by_mu in zip((0.001, 0.01, 0.1), generic, gaussian, strict=True):
        assert pair.most(rate) == pytest.approx(by_pair, abs=1e-5)
        assert curve.most(rate) == pytest.approx(by_mu, abs=1e-5)


@pytest.mark.parametrize(
    ("mechanism", "rates"),
    [
        (SampledGaussian(0.04, 0.8, 125), (0.01650, 0.07600, 0.32014)),
        (SampledGaussian(0.01, 1.0, 1000), (0.00407, 0.02914, 0.19426)),
        (Gaussian(1.0, 1), (0.01830, 0.09241, 0.38921)),
    ],
)
def test_golden_profiles(mechanism: SampledGaussian | Gaussian, rates: tuple[float, ...]) -> None:
    """Never above the source by more than rounding, and closer to the exact curve by at most 6e-5."""
    curve = curve_of(mechanism)
    for rate, expected in zip((0.001, 0.01, 0.1), rates, strict=True):
        assert expected - 1e-4 < curve.most(rate) < expected + 1e-5


def test_a_profile_never_passes_below_the_exact_curve() -> None:
    exact, curve = GaussianCurve(1.0), curve_of(Gaussian(1.0, 1))
    for rate in np.linspace(0, 1, 101):
        assert exact.most(float(rate)) - 1e-9 <= curve.most(float(rate)) <= exact.most(float(rate)) + 1e-3


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 3))
def test_curves_rise_and_mirror(one: float, other: float, mu: float) -> None:
    low, high = sorted((one, other))
    for curve in (GaussianCurve(mu), ProfileCurve((0.5, mu), (0.1, 0.01))):
        assert curve.most(low) <= curve.most(high) + 1e-9
        assert curve.least(low) <= low + 1e-9
        assert curve.most(low) >= low - 1e-9
        assert curve.most(low) == pytest.approx(1 - curve.least(1 - low), abs=1e-9)


def test_nothing_released_allows_only_chance_and_no_privacy_has_no_curve() -> None:
    nothing = curve_of(Composition(()))
    assert (nothing.most(0.3), nothing.least(0.3)) == (0.3, pytest.approx(0.3))
    with pytest.raises(BadInput, match="not private"):
        curve_of(NotPrivate("a test"))
    with pytest.raises(BadInput):
        GaussianCurve(1.0).most(1.1)
    with pytest.raises(BadInput):
        ProfileCurve((), ())


@given(st.floats(0.05, 5), st.floats(1e-9, 0.1))
def test_gaussian_epsilon_mu_and_delta_invert_each_other(mu: float, delta: float) -> None:
    found = gaussian_epsilon(mu, delta)
    if found > 0:
        assert gaussian_delta(mu, found) == pytest.approx(delta, rel=1e-6)
        assert gaussian_mu(found, delta) == pytest.approx(mu, rel=1e-6)


# --- the profile test -----------------------------------------------------------------------------------------


def _scores(noise: float, n: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A useful score and two useless ones, for one release of sensitivity 1."""
    both = [draw.normal(0, noise, (n, 3)) for _ in range(2)]
    both[1][:, 1] += 1
    return both[0], both[1]


def _profile_refutes(noise: float, draw: np.random.Generator) -> bool:
    claimed = GaussianCurve(1.0)
    rule = best_rule(*_scores(noise, 500, draw), claimed)
    excluded, included = _scores(noise, 500, draw)
    counted = count_trials(excluded[:, rule.score], included[:, rule.score], rule.threshold)
    return profile_test(counted, claimed).refuted


def test_the_profile_test_refutes_too_little_noise_and_no_true_claim() -> None:
    """True claim: 5 % at most, so more than 21 of 200 happens once in 1,000. Noise divided by 2: always seen."""
    draw = np.random.default_rng(2)
    assert sum(_profile_refutes(1.0, draw) for _ in range(200)) <= 21
    assert all(_profile_refutes(0.5, draw) for _ in range(20))


def test_the_rule_reads_the_score_that_tells() -> None:
    rule = best_rule(*_scores(0.5, 2000, np.random.default_rng(4)), GaussianCurve(1.0))
    assert rule.score == 1
    assert isinstance(rule, Rule)
    with pytest.raises(BadInput):
        best_rule(np.zeros((3, 1)), np.zeros((3, 2)), GaussianCurve(1.0))


def test_trials_are_counted_and_the_impossible_is_refused() -> None:
    assert count_trials([0.1, 0.9], [0.9, 0.1, 0.5], 0.5) == Trials(2, 1, 3, 2)
    assert count_trials([0.1], [math.nan], 0.5).false_negatives == 1
    for wrong in ((1, 2, 1, 0), (1, 0, 1, -1)):
        with pytest.raises(BadInput):
            Trials(*wrong)
    with pytest.raises(BadInput, match="confidence"):
        mu_lower_bound(Trials(1, 0, 1, 0), 0.3)


# --- the component audit --------------------------------------------------------------------------------------


def _observed(claimed: SampledGaussian, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """1,000 canaries, each in with probability 1/2, projections in units of C."""
    draw = np.random.default_rng(seed)
    batches = (draw.random((claimed.steps, 1000)) < claimed.sample_rate) & (draw.random(1000) < 0.5)
    seen = batches + draw.normal(0, noise, batches.shape)
    return seen[~batches], seen[batches]


@pytest.mark.parametrize(
    ("claim", "noise", "share"), [(1, 1.9445, 0.80), (2, 1.2446, 0.85), (4, 0.8885, 0.85), (8, 0.6678, 0.85)]
)
def test_the_component_audit_reaches_its_target_share_and_never_the_claim(
    claim: float, noise: float, share: float
) -> None:
    """Targets are medians over 9 seeds at q = .04, T = 125; each bound is above the truth in under 5 % of runs."""
    claimed = SampledGaussian(0.04, noise, 125)
    true = epsilon(claimed, 1e-5)
    assert true == pytest.approx(claim, abs=0.01)
    found = [component_bound(*_observed(claimed, noise, seed), claimed, 1e-5).epsilon for seed in range(9)]
    assert float(np.median(found)) >= share * claim
    assert sum(bound > true for bound in found) <= 2


def test_the_component_audit_sees_a_quarter_less_noise() -> None:
    claimed = SampledGaussian(0.04, 0.6678, 125)
    for seed in range(5):
        bound = component_bound(*_observed(claimed, 0.6678 / 1.25, seed), claimed, 1e-5)
        assert bound.epsilon > 8.0
        assert bound.noise_multiplier < 0.6678


def test_the_component_audit_proves_nothing_from_nothing() -> None:
    same = np.random.default_rng(1).normal(size=2000)
    bound = component_bound(same[:1000], same[1000:], SampledGaussian(0.04, 1.0, 125), 1e-5)
    assert (bound.epsilon, bound.noise_multiplier) == (0.0, math.inf)
    with pytest.raises(BadInput, match="noise_multiplier"):
        planned_threshold(10, 10, 0.0)
