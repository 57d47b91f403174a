"""Draws follow Box and Muller to 2^-49; noised sums lie on one grid, whatever the sum (P12, P13)."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import BadInput, HanseError
from common.privacy.gaussian_noise import GRID_BITS, LARGEST_DRAW, add_noise, grid_step, standard_normal
from common.privacy.keystream import Keystream

POINTS = 4000


class Fixed:
    """Hands out given words, one array a call."""

    def __init__(self, *arrays: NDArray[np.uint64]) -> None:
        self.arrays = list(arrays)

    def fill(self, words: NDArray[np.uint64]) -> None:
        words[:] = self.arrays.pop(0)


class Seeded:
    """Words that can be drawn again."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def fill(self, words: NDArray[np.uint64]) -> None:
        words[:] = self._bits.random_raw(len(words))


def words_of_every_size(random: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Uniform ones, tiny ones, and ones just below 2^64."""
    words = random.integers(0, 2**64, count, dtype=np.uint64)
    small = words >> random.integers(0, 64, count).astype(np.uint64)
    kind = random.integers(0, 3, count)
    return np.where(kind == 0, words, np.where(kind == 1, small, ~small))


def exact_pair(radius: int, more: int | None, angle: int) -> tuple[mpmath.mpf, mpmath.mpf, float]:
    """The two draws and their radius by 200-bit arithmetic, from the same words."""
    fraction = mpmath.mpf(0) if more is None else (mpmath.mpf(more) + mpmath.mpf("0.5")) / 2**64
    uniform = (mpmath.mpf(radius) + fraction) / 2**64
    if more is not None and radius >= 2**63:
        uniform = 1 - (mpmath.mpf(2**64 - 1 - radius) + fraction) / 2**64
    length = mpmath.sqrt(-2 * mpmath.log(uniform))
    turn = (((angle ^ 2**63) - 2**63) >> 11) * mpmath.pi / 2 / 2**52
    sign = -1 if angle & 1 else 1
    return length * mpmath.sin(turn), sign * length * mpmath.cos(turn), float(length)


class TestDraws:
    """Against exact arithmetic."""

    def test_p13_draws_are_exact_to_two_to_the_minus_49(self) -> None:
        """Error at most 1.5 * 2^-49 of the radius r, or of 1 / 32 r where that is larger (decision 0004)."""
        mpmath.mp.prec = 200
        random = np.random.Generator(np.random.PCG64(5))
        radius, angle = (words_of_every_size(random, POINTS) for _ in range(2))
        ends = (radius < 2**48) | (radius >= 2**64 - 2**48)
        assert 500 < ends.sum() < POINTS - 500
        more = random.integers(0, 2**64, int(ends.sum()), dtype=np.uint64)
        drawn = standard_normal(2 * POINTS, Fixed(np.concatenate([radius, angle]), more))
        extra = iter(more.tolist())
        for place in range(POINTS):
            second = next(extra) if ends[place] else None
            sine, cosine, length = exact_pair(int(radius[place]), second, int(angle[place]))
            error = max(abs(sine - drawn[place]), abs(cosine - drawn[POINTS + place]))
            assert error <= 1.5 * 2.0**-49 * (length if ends[place] else max(length, 1 / (32 * length)))

    def test_p13_the_largest_draw_is_that_of_the_smallest_uniform(self) -> None:
        zero = np.zeros(1, np.uint64)
        draws = standard_normal(2, Fixed(np.zeros(2, np.uint64), zero))
        assert np.abs(draws).max() == pytest.approx(LARGEST_DRAW, rel=1e-15)
        assert pytest.approx(13.3728, abs=1e-4) == LARGEST_DRAW
        # exp(-r^2 / 2) bounds the chance of the pair's radius; erfc that of one draw.
        assert float(mpmath.erfc(LARGEST_DRAW / math.sqrt(2))) < 9e-41

    def test_p13_extreme_words_give_finite_draws(self) -> None:
        edges = [0, 1, 2**48 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 2**48 - 1, 2**64 - 2**48, 2**64 - 1]
        for radius in edges:
            for angle in edges:
                for more in (0, 2**64 - 1):
                    words = np.array([radius, angle], np.uint64)
                    draws = standard_normal(2, Fixed(words, np.array([more], np.uint64)))
                    assert np.isfinite(draws).all()
                    assert 0 < np.hypot(*draws) <= LARGEST_DRAW * (1 + 1e-15)

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 2**15 - 1, 2**15, 2**15 + 1, 3 * 2**15 + 5])
    def test_as_many_draws_as_asked_for(self, count: int) -> None:
        draws = standard_normal(count, Keystream())
        assert draws.shape == (count,)
        assert np.isfinite(draws).all()
        assert len(np.unique(draws)) == count, "a chunk is not drawn twice"


class TestGrid:
    """Which numbers can come out."""

    @given(st.floats(2.0**-100, 2.0**100))
    def test_the_step_is_a_power_of_two_between_256_and_512_to_the_standard_deviation(self, sigma: float) -> None:
        step = grid_step(sigma)
        assert math.frexp(step)[0] == 0.5
        assert 2**GRID_BITS <= sigma / step < 2 ** (GRID_BITS + 1)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), 1e-31, 2e30])
    def test_a_standard_deviation_out_of_range_is_refused(self, sigma: float) -> None:
        with pytest.raises(BadInput, match=r"standard_deviation = .*: must be between"):
            add_noise(np.zeros(3, np.float32), sigma, Keystream())

    @settings(deadline=None, max_examples=80)
    @given(
        st.sampled_from([np.float32, np.float64]),
        st.floats(1e-20, 1e20),
        st.floats(-12, 12),
        st.integers(0, 2**32),
    )
    def test_p12_every_noised_entry_is_a_multiple_of_the_step(
        self, dtype: type[np.float32] | type[np.float64], sigma: float, magnitude: float, seed: int
    ) -> None:
        random = np.random.Generator(np.random.PCG64(seed))
        total = (random.standard_normal(500) * sigma * 10**magnitude).astype(dtype)
        noised = add_noise(total, sigma, Keystream())
        assert noised.dtype == dtype
        steps = noised.astype(np.float64) / grid_step(sigma)
        assert np.array_equal(steps, np.rint(steps))

    @settings(deadline=None, max_examples=50)
    @given(st.integers(-(2**52), 2**52), st.integers(0, 2**32))
    def test_p12_sums_of_every_size_are_treated_alike(self, shift: int, seed: int) -> None:
        """The same words and a sum further by a multiple of the step: exactly so much further."""
        step = grid_step(1.3)
        remainder = np.random.Generator(np.random.PCG64(seed)).integers(-128, 128, 300) / 256 * step
        near = add_noise(remainder, 1.3, Seeded(seed))
        shift = shift // 2**9 * 2**9 if abs(shift) > 2**43 else shift  # the sum itself must be a float64
        far = add_noise(np.round(remainder * 0 + shift) * step, 1.3, Seeded(seed))
        base = add_noise(remainder * 0, 1.3, Seeded(seed))
        assert np.array_equal(far / step - base / step, np.full(300, shift, np.float64))
        assert np.abs(near - base).max() <= step

    def test_p12_the_result_is_the_rounded_sum_of_total_and_draw(self) -> None:
        """Against the plain formula, where that is exact enough to decide."""
        total = np.random.Generator(np.random.PCG64(3)).standard_normal(5000)
        drawn = standard_normal(5000, Seeded(9))
        steps = (total + 0.7 * drawn) / grid_step(0.7)
        clear = np.abs(steps - np.rint(steps)) < 0.499
        found = add_noise(total, 0.7, Seeded(9)) / grid_step(0.7)
        assert clear.mean() > 0.99
        assert np.array_equal(found[clear], np.rint(steps[clear]))


class TestSums:
    """What may be handed in."""

    @pytest.mark.parametrize("count", [0, 1, 2, 2**15, 2**16 + 1, 200_001])
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_threads_fill_everything_and_leave_the_sum_alone(self, count: int, threads: int) -> None:
        total = np.full(count, 1000.0, np.float32)
        noised = add_noise(total, 1.0, Keystream(), threads)
        assert noised.shape == (count,)
        assert np.array_equal(total, np.full(count, 1000.0, np.float32))
        assert count == 0 or (np.abs(noised - 1000) <= LARGEST_DRAW + 1).all()

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_p15_a_sum_that_is_not_finite_is_refused_without_a_value(self, value: float) -> None:
        total = np.array([1.0, value, 7.25], np.float32)
        with pytest.raises(HanseError, match="not finite; nothing of it is released") as caught:
            add_noise(total, 1.0, Keystream())
        assert "7.25" not in str(caught.value)
