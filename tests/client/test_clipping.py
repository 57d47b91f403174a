"""No example moves the sum by more than C, whatever its gradient; noise has the declared scale (P12)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.clipping import ROUNDING_MARGIN, NoisyClippedSum, clip_factors
from common.errors import HanseError
from common.privacy.gaussian_noise import grid_step
from common.privacy.randomness import SeededRandomness, SystemRandomness

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SHAPES = ((3, 2), (5,), (1,))
ENTRIES = 12
EXTREMES = 10_000


def clipper(max_grad_norm: float = 1.0, noise_multiplier: float = 0.0, **options: float) -> NoisyClippedSum:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    return NoisyClippedSum(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_grad_norm,
        expected_batch_size=options.get("expected_batch_size", 1.0),
        noise=SeededRandomness(1),
    )


def feed(noisy: NoisyClippedSum, examples: torch.Tensor) -> None:
    """Hand over per-example gradients ``(batch, ENTRIES)`` as a backward pass would leave them."""
    start = 0
    for parameter in noisy.params:
        stop = start + parameter.numel()
        parameter.grad_sample = examples[:, start:stop].reshape(len(examples), *parameter.shape)
        start = stop


def clipped_sum(examples: torch.Tensor, max_grad_norm: float = 1.0) -> torch.Tensor:
    """The clipped sum of a batch as float64 ``(ENTRIES,)``; the sum itself is float32."""
    noisy = clipper(max_grad_norm)
    feed(noisy, examples)
    noisy.clip_and_accumulate()
    assert all(parameter.summed_grad.dtype == torch.float32 for parameter in noisy.params)
    return torch.cat([parameter.summed_grad.flatten().double() for parameter in noisy.params])


def extreme_examples(dtype: torch.dtype, rows: int = EXTREMES) -> torch.Tensor:
    """Gradients of every magnitude that the type has, sprinkled with what is not a number."""
    random = np.random.Generator(np.random.PCG64(20))
    info = torch.finfo(dtype)
    low, high = np.log(float(info.smallest_normal) * float(info.eps)), np.log(float(info.max))
    row = random.uniform(low, high, (rows, 1))
    spread = random.uniform(0, 5, (rows, ENTRIES)) * random.integers(0, 2, (rows, 1))
    signs = random.choice([-1.0, 1.0], (rows, ENTRIES))
    values = np.exp(np.clip(row - spread, low, high)) * signs
    special = [0.0, float(info.max), -float(info.max), float(info.smallest_normal) * float(info.eps)]
    special += [float("nan"), float("inf"), float("-inf"), 1.0]
    for place, value in enumerate(special):
        values[place] = value  # a whole gradient of it
    chosen = random.random((rows, ENTRIES)) < 0.03
    chosen[: len(special)] = False
    chosen[rows // 2 :] = False
    values[chosen] = random.choice(special, int(chosen.sum()))
    finite = np.isfinite(values)  # rounding must not push the largest over the edge
    values[finite] = values[finite].clip(-float(info.max), float(info.max))
    return torch.from_numpy(values).to(dtype)


class TestClippedContribution:
    """One example's part of the sum."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("max_grad_norm", [1.0, 1e-3, 100.0])
    def test_p12_norm_is_at_most_c_for_ten_thousand_extreme_inputs(
        self, dtype: torch.dtype, max_grad_norm: float
    ) -> None:
        """Each input alone through ``clip_and_accumulate``: at most C, with no tolerance, and finite.

        10,000 inputs for C = 1, 1,000 each for a small and a large C.
        """
        examples = extreme_examples(dtype, EXTREMES if max_grad_norm == 1.0 else 1000)
        assert not torch.isfinite(examples).all(dim=1)[:8].all(), "the extremes are in"
        noisy = clipper(max_grad_norm)
        found = torch.empty(len(examples), ENTRIES, dtype=torch.float64)
        for row in range(len(examples)):
            feed(noisy, examples[row : row + 1])
            noisy.clip_and_accumulate()
            found[row] = torch.cat([parameter.summed_grad.flatten() for parameter in noisy.params])
            for parameter in noisy.params:
                parameter.summed_grad = None
        norms = found.norm(dim=1)
        assert torch.isfinite(found).all()
        assert norms.max() <= max_grad_norm
        assert norms.max() > 0.999 * max_grad_norm, "clipping to nothing would pass as well"
        dead = ~torch.isfinite(examples).all(dim=1)
        assert dead.sum() >= 10
        assert norms[dead].max() == 0.0

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_p12_a_gradient_within_c_is_kept_as_it_is(self, dtype: torch.dtype) -> None:
        example = torch.linspace(-0.2, 0.2, ENTRIES).to(dtype).unsqueeze(0)
        assert torch.equal(clipped_sum(example), example[0].float().double())

    def test_p12_clipping_keeps_the_direction_and_is_flat_over_all_parameters(self) -> None:
        example = torch.linspace(-30, 40, ENTRIES).unsqueeze(0)
        found = clipped_sum(example, 2.0)
        assert torch.allclose(found / found.norm(), (example[0] / example[0].norm()).double(), atol=1e-6)
        assert float(found.norm()) == pytest.approx(2.0 * (1 - ROUNDING_MARGIN), rel=1e-6)

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf"), 3e38])
    def test_p12_a_poisoned_example_becomes_zero_and_the_others_stay(self, poison: float) -> None:
        """3e38 is finite, but the norm of such a gradient is not."""
        good = torch.randn(4, ENTRIES, generator=torch.Generator().manual_seed(5))
        bad = torch.full((1, ENTRIES), poison)
        mixed = torch.cat([good[:2], bad, good[2:]])
        assert torch.allclose(clipped_sum(mixed), clipped_sum(good), atol=1e-6)

    def test_p12_one_poisoned_entry_zeroes_the_whole_example(self) -> None:
        example = torch.full((1, ENTRIES), 0.1)
        example[0, -1] = float("nan")  # in another parameter than the first
        assert torch.equal(clipped_sum(example), torch.zeros(ENTRIES, dtype=torch.float64))

    def test_p12_the_step_goes_on_after_a_poisoned_example(self) -> None:
        noisy = clipper()
        feed(noisy, torch.full((2, ENTRIES), float("nan")))
        noisy.accumulate()
        feed(noisy, torch.full((1, ENTRIES), 0.1))
        noisy.accumulate()
        noisy.noisy_step()
        moved = torch.cat([parameter.detach().flatten() for parameter in noisy.params])
        assert torch.allclose(moved, torch.full((ENTRIES,), -0.1))

    def test_factors_lie_between_zero_and_one(self) -> None:
        factors = clip_factors([extreme_examples(torch.float32, 500)], 0.5)
        assert factors.dtype == torch.float32
        assert bool(((factors >= 0) & (factors <= 1)).all())


class TestSensitivity:
    """The sum of a batch."""

    @settings(deadline=None, max_examples=60)
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(0, 63),
        st.sampled_from(DTYPES),
        st.sampled_from([1e-3, 1.0, 100.0]),
    )
    def test_p12_adding_one_example_moves_the_clipped_sum_by_at_most_c(
        self, seed: int, others: int, dtype: torch.dtype, max_grad_norm: float
    ) -> None:
        pool = extreme_examples(dtype, 2000)
        rows = torch.randint(0, 2000, (others + 1,), generator=torch.Generator().manual_seed(seed))
        batch = pool[rows]
        moved = clipped_sum(batch, max_grad_norm) - clipped_sum(batch[:-1], max_grad_norm)
        assert float(moved.norm()) <= max_grad_norm

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 8), min_size=1, max_size=6))
    def test_p12_physical_batches_add_up_to_the_logical_one(self, sizes: list[int]) -> None:
        examples = extreme_examples(torch.float32, 100)[: sum(sizes)]
        noisy = clipper()
        for part in torch.split(examples, sizes):
            feed(noisy, part)
            noisy.clip_and_accumulate()
        found = torch.cat([parameter.summed_grad.flatten().double() for parameter in noisy.params])
        assert torch.allclose(found, clipped_sum(examples), atol=1e-4)

    def test_p12_an_empty_batch_contributes_zero(self) -> None:
        assert torch.equal(clipped_sum(torch.empty(0, ENTRIES)), torch.zeros(ENTRIES, dtype=torch.float64))


def groups_of(sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Group and share in its mean of each row, for groups of these sizes."""
    counts = torch.tensor(sizes, dtype=torch.int64)
    units = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    return units, (1.0 / counts)[units]


def grouped_sum(rows: torch.Tensor, sizes: list[int], max_grad_norm: float = 1.0) -> torch.Tensor:
    """The clipped sum of groups of rows as float64 ``(ENTRIES,)``, without step and noise."""
    noisy = clipper(max_grad_norm)
    feed(noisy, rows)
    noisy.accumulate(*groups_of(sizes))
    assert all(parameter.grad_sample is None for parameter in noisy.params)
    assert all(parameter.summed_grad.dtype == torch.float32 for parameter in noisy.params)
    return torch.cat([parameter.summed_grad.flatten().double() for parameter in noisy.params])


sizes_of_groups = st.lists(st.integers(1, 8), max_size=7)


class TestGroups:
    """A person's rows are one unit: averaged, then clipped as one."""

    @settings(deadline=None, max_examples=60)
    @given(sizes_of_groups, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.floats(-3, 3))
    def test_p12_the_sum_is_that_of_clipped_means(
        self, sizes: list[int], seed: int, dtype: torch.dtype, magnitude: float
    ) -> None:
        """Held against a loop over groups in float64."""
        generator = torch.Generator().manual_seed(seed)
        rows = (torch.randn(sum(sizes), ENTRIES, generator=generator) * 10**magnitude).to(dtype)
        wanted = torch.zeros(ENTRIES, dtype=torch.float64)
        for own in torch.split(rows.double(), sizes):
            mean = own.mean(dim=0)
            wanted += mean * min(1.0, (1 - ROUNDING_MARGIN) / float(mean.norm()))
        assert torch.allclose(grouped_sum(rows, sizes), wanted, rtol=1e-5, atol=1e-5)

    @settings(deadline=None, max_examples=60)
    @given(
        sizes_of_groups,
        st.integers(1, 8),
        st.integers(0, 2**32 - 1),
        st.sampled_from(DTYPES),
        st.sampled_from([1e-3, 1.0, 100.0]),
    )
    def test_p12_adding_one_group_of_any_size_moves_the_clipped_sum_by_at_most_c(
        self, sizes: list[int], more: int, seed: int, dtype: torch.dtype, max_grad_norm: float
    ) -> None:
        pool = extreme_examples(dtype, 2000)
        drawn = torch.randint(0, 2000, (sum(sizes) + more,), generator=torch.Generator().manual_seed(seed))
        rows = pool[drawn]
        moved = grouped_sum(rows, [*sizes, more], max_grad_norm)
        moved -= grouped_sum(rows[: sum(sizes)], sizes, max_grad_norm)
        assert torch.isfinite(moved).all()
        assert float(moved.norm()) <= max_grad_norm

    def test_p12_eight_rows_of_one_person_move_a_sum_of_rows_by_eight_c_and_one_of_persons_by_c(self) -> None:
        """What the unit is about; the first line is the control, which shows that the test can tell."""
        rows = torch.full((8, ENTRIES), 3.0)
        assert float(clipped_sum(rows).norm()) == pytest.approx(8 * (1 - ROUNDING_MARGIN))
        assert float(grouped_sum(rows, [8]).norm()) == pytest.approx(1 - ROUNDING_MARGIN)

    @pytest.mark.parametrize("scale", [1e4, 1e9, 1e30])
    def test_p12_rows_that_cancel_stay_within_c(self, scale: float) -> None:
        """Rows far larger than their mean: a norm taken of another rounding than the one added would fail."""
        rows = scale * torch.randn(100, 4, ENTRIES, generator=torch.Generator().manual_seed(4))
        rows = torch.cat([rows, -rows.flip(1) * (1 + 1e-7)], dim=1)
        for own in rows:
            assert float(grouped_sum(own, [8]).norm()) <= 1.0

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
    def test_p12_a_poisoned_row_makes_its_whole_group_zero_and_the_others_stay(self, poison: float) -> None:
        rows = torch.randn(6, ENTRIES, generator=torch.Generator().manual_seed(5))
        rows[3, -1] = poison  # one entry, in the last parameter
        assert torch.equal(grouped_sum(rows, [2, 3, 1]), grouped_sum(rows[[0, 1, 5]], [2, 1]))

    @settings(deadline=None, max_examples=30)
    @given(st.lists(sizes_of_groups, min_size=1, max_size=4))
    def test_p12_physical_batches_of_groups_add_up_to_the_logical_one(self, batches: list[list[int]]) -> None:
        rows = extreme_examples(torch.float32, 300)[: sum(map(sum, batches))]
        noisy = clipper()
        for part, sizes in zip(torch.split(rows, [sum(sizes) for sizes in batches]), batches, strict=True):
            feed(noisy, part)
            noisy.accumulate(*groups_of(sizes))
        found = torch.cat([parameter.summed_grad.flatten().double() for parameter in noisy.params])
        assert torch.allclose(found, grouped_sum(rows, [size for sizes in batches for size in sizes]), atol=1e-4)

    def test_groups_of_one_row_are_rows(self) -> None:
        rows = extreme_examples(torch.float32, 50)
        assert torch.allclose(grouped_sum(rows, [1] * 50), clipped_sum(rows), atol=1e-6)

    def test_the_order_of_rows_does_not_matter(self) -> None:
        rows = torch.randn(6, ENTRIES, generator=torch.Generator().manual_seed(5))
        units, weights = groups_of([2, 3, 1])
        order = torch.tensor([5, 0, 3, 1, 2, 4])
        noisy = clipper()
        feed(noisy, rows[order])
        noisy.accumulate(units[order], weights[order])
        found = torch.cat([parameter.summed_grad.flatten().double() for parameter in noisy.params])
        assert torch.allclose(found, grouped_sum(rows, [2, 3, 1]), atol=1e-6)

    @pytest.mark.parametrize("rows", [1, 2, 4])
    def test_p12_gradients_of_other_rows_than_the_units_name_are_an_error(self, rows: int) -> None:
        """One row would broadcast over all units (Opacus #841)."""
        noisy = clipper()
        feed(noisy, torch.ones(rows, ENTRIES))
        with pytest.raises(HanseError, match=f"gradients of {rows} rows came for the units of 3"):
            noisy.accumulate(*groups_of([2, 1]))

    def test_p12_units_without_weights_are_an_error(self) -> None:
        units, weights = groups_of([2])
        noisy = clipper()
        for arguments in ((units, None), (None, weights)):
            feed(noisy, torch.ones(2, ENTRIES))
            with pytest.raises(HanseError, match="units and weights are given together or not at all"):
                noisy.accumulate(*arguments)


class TestUnclipped:
    """What must never pass."""

    @pytest.mark.parametrize("left", [None, "list"])
    def test_p12_a_trainable_parameter_without_per_example_gradient_is_an_error(self, left: str | None) -> None:
        """Also one whose gradients of two backward passes piled up, as a module used twice leaves them."""
        noisy = clipper()
        feed(noisy, torch.ones(2, ENTRIES))
        parameter = noisy.params[1]
        parameter.grad_sample = None if left is None else [parameter.grad_sample, parameter.grad_sample]
        with pytest.raises(HanseError, match=r"shape \(5,\) has no per-example gradient and would go unclipped"):
            noisy.clip_and_accumulate()

    def test_p12_parameters_that_disagree_about_the_batch_are_an_error(self) -> None:
        """A broadcast input gives gradients of a batch of one (Opacus #841): never summed."""
        noisy = clipper()
        feed(noisy, torch.ones(2, ENTRIES))
        noisy.params[1].grad_sample = torch.ones(1, 5)
        with pytest.raises((HanseError, RuntimeError)):
            noisy.clip_and_accumulate()

    def test_p12_a_plain_gradient_never_enters_the_step(self) -> None:
        """``.grad`` of the backward pass is the unclipped sum; the step must not see it."""
        noisy = clipper()
        feed(noisy, torch.zeros(1, ENTRIES))
        for parameter in noisy.params:
            parameter.grad = torch.full_like(parameter, 1e6)
        noisy.accumulate()
        noisy.noisy_step()
        assert all(torch.equal(parameter, torch.zeros_like(parameter)) for parameter in noisy.params)


class TestNoisyStep:
    """From the sum to the optimizer."""

    def test_the_expected_batch_size_divides_whatever_came(self) -> None:
        for count in (1, 3):
            noisy = clipper(expected_batch_size=4.0)
            feed(noisy, torch.full((count, ENTRIES), 0.1))
            noisy.accumulate()
            noisy.noisy_step()
            assert torch.allclose(noisy.params[1].detach(), torch.full((5,), -0.1 * count / 4))

    def test_nothing_is_carried_into_the_next_step(self) -> None:
        noisy = clipper()
        feed(noisy, torch.full((1, ENTRIES), 0.1))
        noisy.accumulate()
        noisy.noisy_step()
        before = [parameter.detach().clone() for parameter in noisy.params]
        noisy.noisy_step()  # an empty batch
        assert all(torch.equal(one, two) for one, two in zip(before, noisy.params, strict=True))

    def test_p12_every_sum_is_noised_once_at_the_declared_scale(self) -> None:
        """One call of the source for each parameter and step, with sigma C, whatever the physical batches."""
        asked: list[tuple[torch.Size, float]] = []

        class Recording(SystemRandomness):
            def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
                asked.append((total.shape, standard_deviation))
                return super().noisy_sum(total, standard_deviation)

        noisy = clipper(max_grad_norm=0.5, noise_multiplier=3.0)
        noisy._noise_source = Recording()
        for _ in range(3):
            feed(noisy, torch.full((2, ENTRIES), 0.1))
            noisy.accumulate()
        noisy.noisy_step()
        assert asked == [(torch.Size(shape), 1.5) for shape in SHAPES]

    def test_p12_a_sum_is_never_noised_twice(self) -> None:
        noisy = clipper(noise_multiplier=1.0)
        feed(noisy, torch.full((1, ENTRIES), 0.1))
        noisy.accumulate()
        noisy.add_noise()
        with pytest.raises(HanseError, match="each is noised once"):
            noisy.add_noise()

    def test_p12_noisy_gradients_lie_on_the_grid(self) -> None:
        noisy = clipper(noise_multiplier=1.7)
        feed(noisy, torch.full((3, ENTRIES), 0.1234))
        noisy.accumulate()
        noisy.add_noise()
        for parameter in noisy.params:
            steps = parameter.grad.double() / grid_step(1.7)
            assert torch.equal(steps, steps.round())

    def test_every_step_draws_new_noise(self) -> None:
        noisy = clipper(noise_multiplier=1.0)
        noisy.noisy_step()
        first = noisy.params[0].detach().clone()
        noisy.noisy_step()
        assert not torch.allclose(noisy.params[0].detach() - first, first)

    def test_fedprox_pulls_towards_the_start_of_the_round(self) -> None:
        """An empty batch without noise moves by ``- rate * mu * (w - start)`` (Li et al. 2020, eq. 2)."""
        noisy = clipper()
        start = [torch.full_like(parameter, 3.0) for parameter in noisy.params]
        with torch.no_grad():
            for parameter in noisy.params:
                parameter.fill_(1.0)
        noisy.noisy_step(pull=0.25, towards=start)
        for parameter in noisy.params:
            assert torch.allclose(parameter.detach(), torch.full_like(parameter, 1.0 - 0.25 * (1.0 - 3.0)))
