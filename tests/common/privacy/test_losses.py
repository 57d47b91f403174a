"""Losses on a grid: held to dp_accounting's own curve, masses and composition, cell by cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as theirs
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from scipy import fft

from common.privacy import losses
from common.privacy.losses import Release, _curve, compose, loss_range, one_release
from common.privacy.mechanism import Gaussian, Laplace, SampledGaussian
from common.privacy.pld import _once, _times

PAIRS = [(0.01, 1.0), (0.5, 5.0), (0.9, 1.0), (0.0005, 0.8), (0.01, 0.3), (1.0, 2.0), (0.999, 0.5)]


@pytest.mark.parametrize("adjacency", [AdjacencyType.REMOVE, AdjacencyType.ADD])
@pytest.mark.parametrize(("sample_rate", "noise"), PAIRS)
def test_curve_equals_dp_accounting_point_by_point(
    sample_rate: float, noise: float, adjacency: AdjacencyType
) -> None:
    pair = GaussianPrivacyLoss(noise, sampling_prob=sample_rate, adjacency_type=adjacency)
    ends = pair.connect_dots_bounds()
    epsilons = np.linspace(ends.epsilon_lower - 0.1, ends.epsilon_upper, 501)
    np.testing.assert_allclose(_curve(pair, epsilons), pair.get_delta_for_epsilon(epsilons), atol=5e-16)


@pytest.mark.parametrize("release", [SampledGaussian(0.02, 1.0, 1), Gaussian(3.0, 1), Laplace(2.0, 1)])
def test_masses_are_a_distribution_in_both_directions(release: SampledGaussian | Gaussian | Laplace) -> None:
    """All mass is there, and masses x e^-loss are Q's: at most 1, but for rounding where e^-loss is large."""
    found = one_release(release, 1e-3)
    for direction in found.directions:
        values = (direction.lowest + np.arange(len(direction.masses))) * found.interval
        assert direction.masses.min() >= 0
        assert direction.masses.sum() + direction.infinite == pytest.approx(1.0, abs=1e-9)
        assert np.dot(direction.masses, np.exp(-values)) <= 1.0 + 1e-6
    assert len(found.directions) == (2 if isinstance(release, SampledGaussian) else 1)


@pytest.mark.parametrize(("sample_rate", "noise"), [(0.01, 1.0), (0.3, 2.0)])
def test_delta_never_below_the_true_curve(sample_rate: float, noise: float) -> None:
    found = one_release(SampledGaussian(sample_rate, noise, 1), 1e-2)
    pairs = [
        GaussianPrivacyLoss(noise, sampling_prob=sample_rate, adjacency_type=adjacency)
        for adjacency in (AdjacencyType.REMOVE, AdjacencyType.ADD)
    ]
    for epsilon in np.linspace(0, 1.5, 173):
        truth = max(pair.get_delta_for_epsilon(float(epsilon)) for pair in pairs)
        assert found.delta(float(epsilon)) >= truth - 1e-13


def test_remove_is_the_larger_direction_by_far() -> None:
    """S12 of the golden values: an accountant of the other direction alone would say 0.0998."""
    found = compose([one_release(SampledGaussian(0.01, 0.3, 1), 1e-4)], [10])
    assert found is not None
    remove, add = (type(found)(found.interval, (direction,)).epsilon(1e-5) for direction in found.directions)
    assert remove == pytest.approx(14.828, rel=5e-5)
    assert add == pytest.approx(0.0998, rel=1e-3)


def test_composition_equals_dp_accountings() -> None:
    first = theirs.from_gaussian_mechanism(1.0, sampling_prob=0.02).self_compose(200)
    second = theirs.from_laplace_mechanism(4.0).self_compose(3)
    ours = compose(
        [one_release(SampledGaussian(0.02, 1.0, 1), 1e-4), one_release(Laplace(4.0, 1), 1e-4)], [200, 3]
    )
    assert ours is not None
    both = first.compose(second)
    for delta in (1e-9, 1e-7, 1e-5, 1e-3):
        assert ours.epsilon(delta) == pytest.approx(both.get_epsilon_for_delta(delta), abs=3e-5)
    for epsilon in (0.0, 0.5, 1.0, 2.0):
        assert ours.delta(epsilon) == pytest.approx(both.get_delta_for_epsilon(epsilon), rel=1e-6, abs=1e-12)


def test_pure_laplace_costs_its_sum_at_most() -> None:
    found = compose([one_release(Laplace(10.0, 1), 1e-4)], [5])
    assert found is not None
    assert found.epsilon(1e-12) == pytest.approx(0.5, abs=1e-3)


def test_a_window_too_large_is_not_attempted() -> None:
    assert compose([one_release(Gaussian(1.0, 1), 1e-4)], [10**6]) is None


def test_loss_range_of_laplace_is_twice_its_epsilon() -> None:
    assert loss_range(Laplace(4.0, 1)) == 0.5


def test_reading_beyond_all_losses() -> None:
    found = one_release(Laplace(2.0, 1), 1e-4)
    assert found.delta(0.6) <= 1e-15
    assert found.epsilon(0.9) == 0.0
    with_infinite = compose([one_release(Gaussian(1.0, 1), 1e-3)], [3])
    assert with_infinite is not None
    assert with_infinite.epsilon(1e-16) == math.inf


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider float on this machine")
@pytest.mark.parametrize(
    ("sample_rate", "noise", "steps"), [(0.01, 1.0, 1000), (0.02, 0.5, 200), (0.04, 0.8, 125)]
)
def test_rounding_of_the_transform_stays_below_what_is_charged(
    sample_rate: float, noise: float, steps: int
) -> None:
    """The same masses composed in 80 bits: the difference in delta is less than _ROUNDING per release."""
    one = one_release(SampledGaussian(sample_rate, noise, 1), 1e-3)
    composed = compose([one], [steps])
    assert composed is not None
    single, total = one.directions[0], composed.directions[0]
    size = fft.next_fast_len(len(total.masses) + len(single.masses), real=True)
    wide = fft.irfft(fft.rfft(single.masses.astype(np.longdouble), size) ** steps, size)
    wide = np.roll(wide, -((total.lowest - single.lowest * steps) % size))[: len(total.masses)]
    values = (total.lowest + np.arange(len(total.masses))) * 1e-3
    for epsilon in (0.5, 1.0, 2.0, 4.0):
        weights = np.where(values > epsilon, -np.expm1(np.minimum(epsilon - values, 0.0)), 0.0)
        error = float(np.dot(weights, total.masses - wide))
        assert -losses._ROUNDING * steps < error < 1e-10


@pytest.mark.parametrize(
    ("part", "delta"),
    [
        (SampledGaussian(0.75, 0.75, 961), 1e-8),
        (SampledGaussian(0.5, 0.5, 695), 1e-8),
        (Gaussian(0.02, 1), 1e-5),
    ],
)
def test_an_epsilon_of_many_hundreds_is_read_as_exactly_as_a_small_one(part: Release, delta: float) -> None:
    """e^-loss has no place in 64 bits there; delta at the epsilon that is read must still be the one asked."""
    found = compose([one_release(_once(part), 1e-2)], [_times(part)])
    assert found is not None
    epsilon = found.epsilon(delta)
    assert epsilon > 700.0
    assert found.delta(epsilon) == pytest.approx(delta, rel=1e-6)
