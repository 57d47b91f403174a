"""Two kinds of randomness that cannot be mistaken for each other (P13); their statistics are in tests/privacy."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput, HanseError
from common.privacy.gaussian_noise import grid_step
from common.privacy.keystream import Keystream
from common.privacy.randomness import Randomness, SeededRandomness, SystemRandomness

SOURCES = [SystemRandomness(), SeededRandomness(1, 2, 3)]


def noise(source: Randomness) -> torch.Tensor:
    return source.noisy_sum(torch.zeros(64), 1.0)


def seed_everything() -> None:
    random.seed(0)
    np.random.seed(0)  # the global state is the point
    torch.manual_seed(0)


class TestSystem:
    """The private source."""

    def test_p13_it_is_private_and_takes_no_seed(self) -> None:
        assert SystemRandomness.private is True
        with pytest.raises(TypeError):
            SystemRandomness(7)  # type: ignore[call-arg]
        assert not hasattr(SystemRandomness(), "seed")

    @pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_p13_it_cannot_be_copied_or_saved(self, way: Callable[[SystemRandomness], object]) -> None:
        """So nothing is there that a checkpoint could hold or a resumed run could rewind."""
        with pytest.raises(TypeError, match=r"cannot be copied, pickled or saved: .* make a new one"):
            way(SystemRandomness())
        with pytest.raises(TypeError):
            pickle.dumps({"state": SystemRandomness()})

    def test_p13_seeding_every_library_does_not_repeat_a_batch(self) -> None:
        """Two equal batches of 1,000 fair coins: once in 2^1000."""
        seed_everything()
        first = SystemRandomness().poisson_batch(1000, 0.5)
        seed_everything()
        assert not np.array_equal(first, SystemRandomness().poisson_batch(1000, 0.5))

    def test_p13_seeding_every_library_does_not_repeat_noise(self) -> None:
        seed_everything()
        source = SystemRandomness()
        first = noise(source)
        seed_everything()
        assert not torch.equal(first, noise(source))
        assert not torch.equal(first, noise(SystemRandomness()))

    def test_p13_private_noise_does_not_disturb_the_global_generator(self) -> None:
        before = torch.random.get_rng_state()
        noise(SystemRandomness())
        assert torch.equal(before, torch.random.get_rng_state())


class TestSeeded:
    """The reproducible source."""

    def test_p13_it_is_another_type_and_says_that_it_is_not_private(self) -> None:
        assert SeededRandomness.private is False
        assert not issubclass(SeededRandomness, SystemRandomness)
        assert not issubclass(SystemRandomness, SeededRandomness)

    def test_the_same_parts_give_the_same_draws(self) -> None:
        one, two = SeededRandomness(7, 1, 2), SeededRandomness(7, 1, 2)
        for _ in range(3):
            assert np.array_equal(one.poisson_batch(500, 0.3), two.poisson_batch(500, 0.3))
        assert torch.equal(noise(one), noise(two))

    @pytest.mark.parametrize("other", [(8, 1, 2), (7, 2, 2), (7, 1, 3), (7, 12), (71, 2), (7, 1, 2, 0)])
    def test_other_parts_give_other_draws(self, other: tuple[int, ...]) -> None:
        one, two = SeededRandomness(7, 1, 2), SeededRandomness(*other)
        assert not np.array_equal(one.poisson_batch(500, 0.3), two.poisson_batch(500, 0.3))
        assert not torch.equal(noise(one), noise(two))


class TestNoisySum:
    """Both sources."""

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0), (2, 3, 5)])
    def test_p12_shape_and_type_stay_and_every_entry_is_on_the_grid(
        self, source: Randomness, dtype: torch.dtype, shape: tuple[int, ...]
    ) -> None:
        total = torch.full(shape, 0.1234, dtype=dtype)
        noised = source.noisy_sum(total, 0.3)
        assert (noised.shape, noised.dtype) == (total.shape, dtype)
        steps = noised.double() / grid_step(0.3)
        assert torch.equal(steps, steps.round())
        assert torch.equal(total, torch.full(shape, 0.1234, dtype=dtype)), "the sum itself stays"

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    def test_a_sum_need_not_be_contiguous(self, source: Randomness) -> None:
        total = (1000.0 * torch.arange(12).view(3, 4)).T
        assert (source.noisy_sum(total, 1.0) - total).abs().max() < 14

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    def test_a_standard_deviation_of_zero_copies_the_sum(self, source: Randomness) -> None:
        total = torch.tensor([0.1, 0.2])
        found = source.noisy_sum(total, 0.0)
        assert torch.equal(found, total)
        assert found.data_ptr() != total.data_ptr()

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    def test_what_cannot_be_noised_is_refused(self, source: Randomness) -> None:
        with pytest.raises(BadInput, match="standard_deviation = -1"):
            source.noisy_sum(torch.zeros(2), -1.0)
        with pytest.raises(BadInput, match="bfloat16: must be float32 or float64"):
            source.noisy_sum(torch.zeros(2, dtype=torch.bfloat16), 1.0)
        with pytest.raises(HanseError, match="not finite"):
            source.noisy_sum(torch.tensor([float("nan")]), 1.0)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_sum_on_a_gpu_stays_there(self) -> None:
        total = torch.full((1000,), 5.0, device="cuda")
        noised = SystemRandomness().noisy_sum(total, 1.0)
        assert noised.device == total.device
        assert (noised - total).abs().max() < 14


class TestPoissonBatch:
    """Both sources."""

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    def test_a_rate_of_zero_takes_nobody_and_of_one_everybody(self, source: Randomness) -> None:
        assert source.poisson_batch(50, 0.0).tolist() == []
        assert source.poisson_batch(50, 1.0).tolist() == list(range(50))

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    @given(st.integers(0, 200), st.floats(0, 1))
    def test_indexes_are_sorted_distinct_and_in_range(
        self, source: Randomness, population: int, rate: float
    ) -> None:
        batch = source.poisson_batch(population, rate)
        assert batch.dtype == np.int64
        assert np.array_equal(batch, np.unique(batch))
        assert all(0 <= index < population for index in batch)

    @pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])
    @pytest.mark.parametrize("rate", [-0.1, 1.0000001, 2.0, float("nan"), float("inf"), -1e-300])
    def test_a_rate_out_of_range_is_refused(self, source: Randomness, rate: float) -> None:
        with pytest.raises(BadInput, match="must be between 0 and 1"):
            source.poisson_batch(10, rate)

    def test_p03_the_true_rate_never_exceeds_the_accounted_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A unit is taken for ``floor(q 2^64)`` of the 2^64 values: at the border the last one is left out."""
        rate = 0.3
        border = int(rate * 2**64)
        values = np.array([0, border - 1, border, border + 1, 2**64 - 1], dtype=np.uint64)
        monkeypatch.setattr(Keystream, "words", lambda self, count: values)
        assert SystemRandomness().poisson_batch(5, rate).tolist() == [0, 1]

    def test_the_largest_rate_below_one_and_the_smallest_above_zero(self) -> None:
        assert len(SystemRandomness().poisson_batch(10_000, float(np.nextafter(1.0, 0.0)))) == 10_000
        assert len(SystemRandomness().poisson_batch(10_000, 5e-324)) == 0
