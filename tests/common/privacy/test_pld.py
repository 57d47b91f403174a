"""The tight accountant: golden rows, an independent transform written here, and the traps that concern it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from common.errors import RunFailed
from common.privacy import pld, rdp
from common.privacy.mechanism import Composition, Gaussian, Laplace, NotPrivate, SampledGaussian
from tests.common.privacy.golden_values import MIXED, ROWS, Mixed, Row, whole


def half_digit(value: float) -> float:
    """Half a unit in the fifth significant digit, the accuracy of a golden value."""
    return 0.51 * 10.0 ** (math.floor(math.log10(value)) - 4)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name != "S07"], ids=lambda row: row.name)
def test_golden_epsilon(row: Row) -> None:
    assert pld.epsilon(row.mechanism, row.delta) == pytest.approx(row.pld, abs=half_digit(row.pld))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_within_the_independent_value_and_below_rdp(row: Row) -> None:
    found = pld.epsilon(row.mechanism, row.delta)
    rounding = half_digit(row.own_pld)
    above = 2e-3 if row.steps > pld.MANY_STEPS else 1e-4
    assert row.own_pld - 1e-5 - rounding <= found <= row.own_pld + above + rounding
    assert found <= rdp.epsilon(row.mechanism, row.delta)


@pytest.mark.parametrize("mixed", MIXED, ids=lambda mixed: mixed.name)
def test_golden_epsilon_of_compositions(mixed: Mixed) -> None:
    assert pld.epsilon(whole(mixed), 1e-5) == pytest.approx(mixed.pld, abs=half_digit(mixed.pld))


def analytic_gaussian(mu: float, delta: float) -> float:
    """Balle, Wang 2018, Theorem 8, solved for epsilon."""

    def excess(epsilon: float) -> float:
        upper = special.ndtr(mu / 2 - epsilon / mu)
        return float(upper - math.exp(epsilon) * special.ndtr(-mu / 2 - epsilon / mu) - delta)

    return float(optimize.brentq(excess, 0.0, 100.0, xtol=1e-13))


@pytest.mark.parametrize(
    ("noise", "count", "delta", "literal"),
    [(1.0, 1, 1e-5, 4.377178095681), (4.0, 16, 1e-6, 4.886554117462), (9.0, 20, 1e-5, None)],
)
def test_plain_gaussian_equals_the_analytic_formula(
    noise: float, count: int, delta: float, literal: float | None
) -> None:
    found = pld.epsilon(Gaussian(noise, count), delta)
    exact = analytic_gaussian(math.sqrt(count) / noise, delta)
    assert literal is None or exact == pytest.approx(literal, abs=1e-11)
    assert found == pytest.approx(exact, abs=1e-6)


def slow_epsilon(row: Row, interval: float) -> float:
    """Epsilon of the remove direction by mean-matched cells and one transform; shares nothing with Hanse.

    x is drawn from P = (1 - q) N(0, s^2) + q N(1, s^2); each cell of losses keeps its mass, and the whole
    grid is shifted so that the mean loss of one step is exact (Gopi, Lee, Wutschitz 2021, section 5).
    """
    q, s = row.sample_rate, row.noise
    x = np.linspace(-9 * s, 1 + 9 * s, 400_001)
    middle = (x[1:] + x[:-1]) / 2
    upper = (1 - q) * stats.norm.sf(x, 0, s) + q * stats.norm.sf(x, 1, s)
    lower = (1 - q) * stats.norm.cdf(x, 0, s) + q * stats.norm.cdf(x, 1, s)
    mass = np.where(middle > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1])
    loss = np.log1p(q * np.expm1((2 * middle - 1) / (2 * s * s)))
    size = 2**21
    cell = np.rint(loss / interval).astype(int)
    step = np.bincount(cell % size, mass, size)
    shift = float(np.dot(mass, loss) - interval * np.dot(mass, cell))
    total = np.maximum(np.fft.irfft(np.fft.rfft(step) ** row.steps, size), 0)
    position = np.arange(size)
    values = interval * np.where(position < size // 2, position, position - size) + row.steps * shift

    def excess(epsilon: float) -> float:
        above = values > epsilon
        return float(np.dot(total[above], -np.expm1(epsilon - values[above])) - row.delta)

    return float(optimize.brentq(excess, 0.0, 60.0, xtol=1e-9))


@pytest.mark.parametrize("name", ["S03", "S05", "S08"])
def test_equals_a_slow_transform_written_for_this_test(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    assert -1e-4 <= pld.epsilon(row.mechanism, row.delta) - slow_epsilon(row, 5e-5) <= 1e-4


def test_trap02_interval_follows_the_spread_for_many_steps() -> None:
    few, many = ROWS[2].mechanism, ROWS[6].mechanism
    assert pld.interval_for(few) == 1e-4
    assert pld.interval_for(many) == pytest.approx(0.02 * 0.0005 * math.sqrt(math.expm1(1 / 0.64)))
    coarse, fine = pld.epsilon(many, 1e-7, 1e-4), pld.epsilon(many, 1e-7)
    assert coarse == pytest.approx(1.5334, abs=1e-4)
    assert fine == pytest.approx(1.5321, abs=1e-4)


def test_trap02_a_wider_interval_is_never_below() -> None:
    mechanism = ROWS[2].mechanism
    found = [pld.epsilon(mechanism, 1e-5, interval) for interval in (1e-2, 1e-3, 1e-4, 2e-5)]
    assert found == pytest.approx([1.9014, 1.8289, 1.8282436, 1.8282369], abs=5e-5)
    assert found == sorted(found, reverse=True)


def test_trap04_a_tiny_delta_never_exceeds_rdp() -> None:
    """At 1e-12 the charge for rounding shows; at 14,062 steps it exceeds delta, and RDP answers."""
    third, fourth = ROWS[2].mechanism, ROWS[3].mechanism
    assert 3.9029 <= pld.epsilon(third, 1e-12) <= 3.97
    for mechanism in (third, fourth, ROWS[6].mechanism):
        assert pld.epsilon(mechanism, 1e-12) <= rdp.epsilon(mechanism, 1e-12) < math.inf


def test_trap05_a_large_delta_is_clamped_at_zero() -> None:
    assert pld.epsilon(Gaussian(50.0, 1), 0.05) == 0.0


def test_trap13_rounds_cost_what_their_sum_costs() -> None:
    whole_run = pld.epsilon(SampledGaussian(0.01, 1.0, 1000), 1e-5)
    in_rounds = Composition((SampledGaussian(0.01, 1.0, 50),) * 20)
    assert pld.epsilon(in_rounds, 1e-5) == whole_run


def test_splitting_a_run_by_a_hair_of_noise_changes_nothing() -> None:
    """Not merged (the noise differs in the last place), so the convolution itself is at work."""
    noise = math.nextafter(1.0, 2.0)
    split = Composition((SampledGaussian(0.01, 1.0, 400), SampledGaussian(0.01, noise, 600)))
    run = pld.epsilon(SampledGaussian(0.01, 1.0, 1000), 1e-5)
    assert pld.epsilon(split, 1e-5) == pytest.approx(run, abs=1e-8)


def test_trap14_edges() -> None:
    for nothing in (SampledGaussian(0.1, 1.0, 0), SampledGaussian(0.0, 1.0, 9), Composition(())):
        assert pld.epsilon(nothing, 1e-5) == 0.0
        assert pld.delta(nothing, 0.0) == 0.0
    for lost in (SampledGaussian(0.1, 0.0, 1), Gaussian(0.0, 1), Laplace(0.0, 1), NotPrivate("no noise")):
        assert pld.epsilon(Composition((lost, Gaussian(9.0, 1))), 1e-5) == math.inf
        assert pld.delta(lost, 1.0) == 1.0
    sampled, plain = SampledGaussian(1.0, 2.0, 3), Gaussian(2.0, 3)
    assert pld.epsilon(sampled, 1e-5) == pld.epsilon(plain, 1e-5)
    with pytest.raises(RunFailed, match="no finite"):
        pld.interval_for(NotPrivate("no noise"))


@pytest.mark.parametrize(
    "mechanism",
    [
        SampledGaussian(1e-12, 1.0, 10),
        SampledGaussian(0.999999, 1.0, 2),
        SampledGaussian(1e-6, 10.0, 10**6),
        SampledGaussian(0.5, 0.05, 3),
        SampledGaussian(0.01, 1.0, 10**8),
        Composition((SampledGaussian(1e-6, 10.0, 30_000), Gaussian(1.0, 1))),
        Gaussian(1e6, 1),
        Gaussian(1e-3, 10**9),
        Laplace(1e6, 10**9),
        Laplace(0.01, 100),
        SampledGaussian(1e-5, 1e6, 10**9),
    ],
)
def test_extremes_stay_between_zero_and_rdp(
    mechanism: SampledGaussian | Gaussian | Laplace | Composition,
) -> None:
    assert 0.0 <= pld.epsilon(mechanism, 1e-6) <= rdp.epsilon(mechanism, 1e-6)
    assert 0.0 <= pld.delta(mechanism, 1.0) <= min(1.0, rdp.delta(mechanism, 1.0))
