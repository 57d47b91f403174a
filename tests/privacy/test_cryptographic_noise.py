"""Noise of a private run is Gaussian to its tails, independent, and on the grid; wrong noise is rejected.

Draws come from the operating system, so each test states its false-alarm rate: how often it fails though all
is right. Scores that are approximately normal are accepted within ``LIMIT`` standard deviations (1e-9 each),
p-values from ``SMALLEST`` = 1e-9 on, Anderson and Darling's statistic up to 21 (2e-10: its upper tail is
``sqrt(3) erfc(sqrt(z))``, since it is a sum of ``chi^2 / (j (j + 1))``). Fewer than 120 such decisions are
made in the whole module: it fails wrongly less than 1.2e-7 of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats

from common.privacy.gaussian_noise import grid_step, standard_normal
from common.privacy.keystream import Keystream, WordSource
from common.privacy.randomness import NoiseSource, SystemRandomness

LIMIT, SMALLEST, ANDERSON_DARLING = 6.1, 1e-9, 21.0
DRAWS = 2**20
TAIL_BLOCKS = 32
PAIR = 2**14  # the two draws of a Box-Muller pair lie so far apart

Draws = NDArray[np.float64]


def shape_faults(draws: Draws) -> set[str]:
    """What is wrong with draws that should be N(0, 1). False alarms: 5e-9."""
    count = len(draws)
    uniform = special.ndtr(np.sort(draws))
    weights = 2 * np.arange(1, count + 1) - 1
    logs = np.log(np.maximum(uniform, 1e-300)) + np.log(np.maximum(1 - uniform[::-1], 1e-300))
    bins = np.bincount((special.ndtr(draws) * 1000).astype(int).clip(0, 999), minlength=1000)
    wrong = {
        "mean": abs(draws.mean()) * count**0.5 > LIMIT,
        "variance": abs((draws**2).mean() - 1) * (count / 2) ** 0.5 > LIMIT,
        "fourth moment": abs((draws**4).mean() - 3) * (count / 96) ** 0.5 > LIMIT,
        "Kolmogorov-Smirnov": stats.kstest(uniform, "uniform").pvalue < SMALLEST,
        "Anderson-Darling": -count - (weights * logs).mean() > ANDERSON_DARLING,
        "chi-square": stats.chisquare(bins).pvalue < SMALLEST,
    }
    return {name for name, found in wrong.items() if found}


def dependence_faults(draws: Draws) -> set[str]:
    """Lags at which draws or their squares are correlated. False alarms: 1.4e-8."""
    wrong = set()
    for lag in (1, 2, 3, 64, PAIR - 1, PAIR, 2 * PAIR):
        for name, values, spread in (("draws", draws, 1.0), ("squares", draws**2 - 1, 2.0)):
            products = values[:-lag] * values[lag:]
            if abs(products.mean()) * len(products) ** 0.5 / spread > LIMIT:
                wrong.add(f"{name} at lag {lag}")
    return wrong


def tail_faults(draw: Callable[[int], Draws]) -> set[str]:
    """Tails of 2^26 draws that hold too many or too few. False alarms: 5e-9.

    2,125 and 228 draws are expected beyond 4 and 4.5 on each side, 38 beyond 5 on both together.
    """
    count = TAIL_BLOCKS * 2**21
    found = dict.fromkeys(((-1, 4.0), (1, 4.0), (-1, 4.5), (1, 4.5), (0, 5.0)), 0)
    for _ in range(TAIL_BLOCKS):
        draws = draw(2**21)
        for sign, edge in found:
            found[sign, edge] += int(np.count_nonzero((sign * draws if sign else np.abs(draws)) > edge))
    return {
        f"{sign:+d} beyond {edge}"
        for (sign, edge), seen in found.items()
        if stats.binomtest(seen, count, (1 if sign else 2) * float(stats.norm.sf(edge))).pvalue < SMALLEST
    }


def plain(count: int) -> Draws:
    return standard_normal(count, Keystream())


class TestPlainDraws:
    """Before rounding."""

    def test_p13_draws_are_standard_normal(self) -> None:
        assert shape_faults(plain(DRAWS)) == set()

    def test_p13_draws_and_their_squares_are_uncorrelated(self) -> None:
        """Also the two draws of one pair, which share a radius."""
        assert dependence_faults(plain(DRAWS)) == set()

    @pytest.mark.parametrize("factor", [0.985, 1.015])
    def test_p13_a_scale_wrong_by_one_and_a_half_percent_is_rejected(self, factor: float) -> None:
        """Negative control: the variance is 21 standard deviations away."""
        assert shape_faults(factor * plain(DRAWS)) >= {"variance", "Anderson-Darling"}

    def test_p13_other_shapes_are_rejected(self) -> None:
        """Negative control: sums of twelve uniforms, and noise moved by a hundredth of its deviation."""
        random = np.random.Generator(np.random.PCG64(1))
        sums = random.random((12, DRAWS)).sum(axis=0) - 6
        assert shape_faults(sums) >= {"fourth moment", "chi-square", "Anderson-Darling"}
        assert shape_faults(plain(DRAWS) + 0.01) >= {"mean", "Kolmogorov-Smirnov", "Anderson-Darling"}

    def test_p13_dependent_draws_are_rejected(self) -> None:
        """Negative control: each draw in 16 taken from its neighbour, and pairs that share more than they may."""
        draws = plain(DRAWS)
        echo = draws.copy()
        echo[1::16] = draws[::16]
        assert "draws at lag 1" in dependence_faults(echo)
        loud = draws.reshape(-1, 2 * PAIR).copy()
        loud[:, PAIR:] = np.abs(loud[:, :PAIR]) * np.sign(loud[:, PAIR:])
        assert dependence_faults(loud.reshape(-1)) == {f"squares at lag {PAIR}"}


class TestTails:
    """To five standard deviations."""

    def test_p13_tails_hold_what_a_gaussian_holds(self) -> None:
        stream = Keystream()
        assert tail_faults(lambda count: standard_normal(count, stream)) == set()

    def test_p13_tails_clipped_at_five_standard_deviations_are_rejected(self) -> None:
        """Negative control: none where 38 are expected, which chance does once in 5e16."""
        random = np.random.Generator(np.random.PCG64(4))

        def clipped(count: int) -> Draws:
            return random.standard_normal(count).clip(-5, 5)

        assert tail_faults(clipped) == {"+0 beyond 5.0"}

    @pytest.mark.parametrize("top", [0, 1, 3])
    def test_p13_rare_radii_have_the_law_of_a_gaussians_tail(self, top: int) -> None:
        """Words below ``(top + 1) 2^48``: beyond 4.5 r^2/2 is exponential, with more bits drawn where needed.

        False alarms: 1e-9 a case.
        """
        radii = self._radii(top, Keystream())
        assert stats.kstest(self._uniforms(radii, top), "uniform").pvalue > SMALLEST

    def test_p13_radii_without_the_further_bits_are_rejected(self) -> None:
        """Negative control: words of one bit, and no more bits drawn."""

        class Blind:
            def fill(self, words: NDArray[np.uint64]) -> None:
                words[:] = 2**63

        uniforms = self._uniforms(self._radii(0, Blind(), 2**47), 0)
        assert stats.kstest(uniforms, "uniform").pvalue < SMALLEST

    @staticmethod
    def _radii(top: int, more: WordSource, coarse: int = 1) -> Draws:
        class Small:
            """Radius words of 48 bits, multiples of ``coarse``, above ``top``; further bits come from ``more``."""

            def __init__(self) -> None:
                self.further = False

            def fill(self, words: NDArray[np.uint64]) -> None:
                if self.further:
                    more.fill(words)
                    return
                Keystream().fill(words)
                radius = words[: len(words) // 2]
                radius[:] = (radius >> 16) // coarse * coarse + top * 2**48
                self.further = True

        draws = standard_normal(2 * PAIR, Small())
        radii: Draws = np.hypot(draws[:PAIR], draws[PAIR:])
        return radii

    @staticmethod
    def _uniforms(radii: Draws, top: int) -> Draws:
        uniforms: Draws = np.exp(-(radii**2) / 2) * 2.0**16 - top
        return uniforms


def noised(source: NoiseSource, total: torch.Tensor, deviation: float) -> Draws:
    found: Draws = source.noisy_sum(total, deviation).double().numpy()
    return found


class TestNoisedSums:
    """After rounding to the grid."""

    @pytest.mark.parametrize("deviation", [1.0, 1.3, 1.999])
    @pytest.mark.parametrize("offset", [0.0, 0.3, 1000.5])
    def test_p13_cells_of_the_grid_have_the_probability_of_a_rounded_gaussian(
        self, deviation: float, offset: float
    ) -> None:
        """Chi-square over every cell within three standard deviations. False alarms: 1e-9 a case."""
        assert self._cells(deviation, deviation, offset) > SMALLEST

    def test_p13_a_scale_wrong_by_three_percent_moves_the_cells(self) -> None:
        """Negative control."""
        assert self._cells(1.3, 1.3 * 1.03, 0.3) < SMALLEST

    @staticmethod
    def _cells(deviation: float, recorded: float, offset: float) -> float:
        step = grid_step(deviation)
        total = torch.full((DRAWS,), offset * step, dtype=torch.float32)
        steps = np.rint(noised(SystemRandomness(), total, deviation) / step).astype(np.int64)
        middle, reach = round(offset), int(3 * deviation / step)
        seen = np.bincount((steps - middle + reach + 1).clip(0, 2 * reach + 2), minlength=2 * reach + 3)
        edges = (np.arange(-reach, reach + 2) - 0.5 + middle - float(total[0]) / step) * step / recorded
        below = np.concatenate([[0.0], special.ndtr(edges), [1.0]])
        return float(stats.chisquare(seen, np.diff(below) * DRAWS).pvalue)

    def test_p13_noise_of_two_tensors_and_of_two_sources_is_uncorrelated(self) -> None:
        """False alarms: 3e-9."""
        one, two = SystemRandomness(), SystemRandomness()
        zeros = torch.zeros(DRAWS)
        found = [noised(source, zeros, 1.0) for source in (one, one, two)]
        assert [self._correlated(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2))] == [False] * 3

    def test_p13_a_repeated_stream_is_rejected(self) -> None:
        """Negative control: the same words for two tensors."""
        words = Keystream().words(2**11)

        class Repeated:
            def fill(self, out: NDArray[np.uint64]) -> None:
                out[:] = words[: len(out)]

        first, second = (standard_normal(2**10, Repeated()) for _ in range(2))
        assert self._correlated(first, second)

    @staticmethod
    def _correlated(one: Draws, two: Draws) -> bool:
        return bool(abs((one * two).mean()) * len(one) ** 0.5 > LIMIT)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("difference", [1e-9, 0.1, 1 / 3, 1.0, 1e-30])
    def test_p12_noised_sums_of_neighbours_have_the_same_support(
        self, dtype: torch.dtype, difference: float
    ) -> None:
        """All of the grid within 2.4 standard deviations of either sum, and nothing beside the grid.

        The rarest of 950 cells expects 91 of 2^20 draws: one stays empty with probability 1e-36.
        """
        supports = [self._support(total, dtype) for total in (1 / 7, 1 / 7 + difference)]
        grid = set(range(-300, 650))
        assert [support & grid for support in supports] == [grid, grid]
        assert all(value == int(value) for support in supports for value in support)

    def test_p12_torchs_own_noise_has_a_support_that_depends_on_the_sum(self) -> None:
        """Negative control (Mironov 2012): most results of one sum never come from its neighbour."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.normal(0.0, 1.0, (DRAWS,), generator=generator)
        near, far = (set((total + noise).tolist()) for total in (0.0, 2.0**-25))
        assert len(near ^ far) > 0.1 * len(near)

    @staticmethod
    def _support(total: float, dtype: torch.dtype) -> set[float]:
        sums = torch.full((DRAWS,), total, dtype=dtype)
        return set((noised(SystemRandomness(), sums, 1.0) / grid_step(1.0)).tolist())


class TestInclusion:
    """Poisson sampling draws from the same stream."""

    ROUNDS, POPULATION, RATE = 2000, 500, 0.05

    def test_p13_inclusion_counts_are_binomial(self) -> None:
        """False alarms: 2e-9."""
        assert self._faults(SystemRandomness(), self.RATE) == set()

    def test_p13_a_rate_wrong_by_four_percent_is_rejected(self) -> None:
        """Negative control."""
        assert self._faults(SystemRandomness(), 1.04 * self.RATE) == {"rate"}

    def _faults(self, source: SystemRandomness, rate: float) -> set[str]:
        counts = np.zeros(self.POPULATION)
        for _ in range(self.ROUNDS):
            counts[source.poisson_batch(self.POPULATION, rate)] += 1
        variance = self.ROUNDS * self.RATE * (1 - self.RATE)
        scores = {
            "rate": (counts.mean() - self.ROUNDS * self.RATE) * math.sqrt(self.POPULATION / variance),
            "spread": (counts.var(ddof=1) / variance - 1) * math.sqrt((self.POPULATION - 1) / 2),
        }
        return {name for name, score in scores.items() if abs(score) > LIMIT}


def test_the_limits_give_the_stated_false_alarm_rates() -> None:
    assert 2 * stats.norm.sf(LIMIT) < 1.1e-9
    assert 3**0.5 * math.erfc(ANDERSON_DARLING**0.5) < 2e-10
