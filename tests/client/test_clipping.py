"""No unit moves the clipped sum by more than C, whatever its gradient, and sums are exact (P12)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import client.layer_rules
from client.clipping import ROUNDING_MARGIN, STABILITY, ClippedBackward, Clipping, clip_factors
from client.layer_gradients import SharedInput, WeightGradient, weight_gradient
from client.units import Units
from common.errors import HanseError

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES = (6, 5, 1)
ENTRIES = 12
EXTREMES = 10_000


class Slices(nn.Module):
    """Three layers whose gradients are, row by row, what it is fed: losses are ``outputs . examples``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, size, bias=False) for size in SIZES)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, examples: torch.Tensor) -> torch.Tensor:
        ones = torch.ones(len(examples), 1)
        outputs = torch.cat([layer(ones) for layer in self.layers], dim=1)
        return (outputs.to(examples.dtype) * examples).sum(dim=1)


class Clipper:
    """A network of three layers under :class:`ClippedBackward`, and what has been summed."""

    def __init__(self, max_grad_norm: float = 1.0, clipping: Clipping = "flat") -> None:
        network = Slices()
        self.params = list(network.parameters())
        self.clipped = ClippedBackward(network, self.params, max_grad_norm, clipping)

    def feed(self, examples: torch.Tensor, units: Units | None = None) -> None:
        """Take examples ``(rows, ENTRIES)`` as a physical batch."""
        self.clipped.backward(self.clipped(examples=examples), units)

    def take(self) -> torch.Tensor:
        """The sum so far as float64 ``(ENTRIES,)``, which starts anew; the sum itself is float32."""
        sums = [parameter.summed_grad for parameter in self.params]
        assert all(each.dtype == torch.float32 for each in sums)
        for parameter in self.params:
            parameter.summed_grad = None
        return torch.cat([each.flatten().double() for each in sums])


def clipped_sum(examples: torch.Tensor, max_grad_norm: float = 1.0, clipping: Clipping = "flat") -> torch.Tensor:
    """The clipped sum of a batch as float64 ``(ENTRIES,)``."""
    clipper = Clipper(max_grad_norm, clipping)
    clipper.feed(examples)
    return clipper.take()


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
    @pytest.mark.parametrize(
        ("clipping", "max_grad_norm", "rows"),
        [("flat", 1.0, EXTREMES), ("flat", 1e-3, 1000), ("flat", 100.0, 1000), ("automatic", 1.0, 1000)],
    )
    def test_p12_norm_is_at_most_c_for_ten_thousand_extreme_inputs(
        self, dtype: torch.dtype, clipping: Clipping, max_grad_norm: float, rows: int
    ) -> None:
        """Each input as a batch of its own: at most C, with no tolerance, and finite.

        10,000 inputs for C = 1, 1,000 each for other C and for automatic clipping.
        """
        examples = extreme_examples(dtype, rows)
        assert not torch.isfinite(examples).all(dim=1)[:8].all(), "the extremes are in"
        clipper = Clipper(max_grad_norm, clipping)
        found = torch.empty(len(examples), ENTRIES, dtype=torch.float64)
        for row in range(len(examples)):
            clipper.feed(examples[row : row + 1])
            found[row] = clipper.take()
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

    def test_p12_the_sum_goes_on_after_a_poisoned_batch(self) -> None:
        clipper = Clipper()
        clipper.feed(torch.full((2, ENTRIES), float("nan")))
        clipper.feed(torch.full((1, ENTRIES), 0.1))
        assert torch.allclose(clipper.take(), torch.full((ENTRIES,), 0.1, dtype=torch.float64))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_p12_automatic_clipping_scales_every_gradient_to_c_times_its_norm_over_norm_and_stability(
        self, dtype: torch.dtype
    ) -> None:
        """Bu et al. 2022, equation 4; small gradients too, which flat clipping leaves as they are."""
        for scale in (1e-4, 1e-2, 1.0, 30.0):
            example = (scale * torch.linspace(-0.2, 0.2, ENTRIES)).to(dtype).unsqueeze(0)
            exact = example[0].float().double()
            wanted = exact * 2.0 * (1 - ROUNDING_MARGIN) / (exact.norm() + STABILITY)
            assert torch.allclose(clipped_sum(example, 2.0, "automatic"), wanted, rtol=1e-5, atol=1e-9)

    def test_p12_automatic_clipping_leaves_a_gradient_of_zero_at_zero(self) -> None:
        assert torch.equal(
            clipped_sum(torch.zeros(3, ENTRIES), 1.0, "automatic"), torch.zeros(ENTRIES, dtype=torch.float64)
        )

    def test_factors_lie_between_zero_and_one(self) -> None:
        factors = clip_factors(extreme_examples(torch.float32, 500).square().sum(dim=1), 0.5)
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
        st.sampled_from(["flat", "automatic"]),
    )
    def test_p12_adding_one_example_moves_the_clipped_sum_by_at_most_c(
        self, seed: int, others: int, dtype: torch.dtype, max_grad_norm: float, clipping: Clipping
    ) -> None:
        pool = extreme_examples(dtype, 2000)
        rows = torch.randint(0, 2000, (others + 1,), generator=torch.Generator().manual_seed(seed))
        batch = pool[rows]
        moved = clipped_sum(batch, max_grad_norm, clipping) - clipped_sum(batch[:-1], max_grad_norm, clipping)
        assert float(moved.norm()) <= max_grad_norm

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 8), min_size=1, max_size=6))
    def test_p12_physical_batches_add_up_to_the_logical_one(self, sizes: list[int]) -> None:
        examples = extreme_examples(torch.float32, 100)[: sum(sizes)]
        clipper = Clipper()
        for part in torch.split(examples, sizes):
            clipper.feed(part)
        assert torch.allclose(clipper.take(), clipped_sum(examples), atol=1e-4)

    def test_p12_an_empty_batch_contributes_zero(self) -> None:
        assert torch.equal(clipped_sum(torch.empty(0, ENTRIES)), torch.zeros(ENTRIES, dtype=torch.float64))


def groups_of(sizes: list[int]) -> Units:
    """Group and share in its mean of each row, for groups of these sizes."""
    counts = torch.tensor(sizes, dtype=torch.int64)
    units = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    return Units(units, (1.0 / counts)[units])


def grouped_sum(rows: torch.Tensor, sizes: list[int], max_grad_norm: float = 1.0) -> torch.Tensor:
    """The clipped sum of groups of rows as float64 ``(ENTRIES,)``, without step and noise."""
    clipper = Clipper(max_grad_norm)
    clipper.feed(rows, groups_of(sizes))
    return clipper.take()


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
        clipper = Clipper()
        for part, sizes in zip(torch.split(rows, [sum(sizes) for sizes in batches]), batches, strict=True):
            clipper.feed(part, groups_of(sizes))
        assert torch.allclose(
            clipper.take(), grouped_sum(rows, [size for sizes in batches for size in sizes]), atol=1e-4
        )

    def test_groups_of_one_row_are_rows(self) -> None:
        rows = extreme_examples(torch.float32, 50)
        assert torch.allclose(grouped_sum(rows, [1] * 50), clipped_sum(rows), atol=1e-6)

    def test_the_order_of_rows_does_not_matter(self) -> None:
        rows = torch.randn(6, ENTRIES, generator=torch.Generator().manual_seed(5))
        units = groups_of([2, 3, 1])
        order = torch.tensor([5, 0, 3, 1, 2, 4])
        clipper = Clipper()
        clipper.feed(rows[order], Units(units.index[order], units.weights[order]))
        assert torch.allclose(clipper.take(), grouped_sum(rows, [2, 3, 1]), atol=1e-6)

    @pytest.mark.parametrize("rows", [1, 2, 4])
    def test_p12_losses_of_other_rows_than_the_units_name_are_an_error(self, rows: int) -> None:
        """One row would broadcast over all units (Opacus #841)."""
        with pytest.raises(HanseError, match=f"losses of {rows} rows came for the units of 3"):
            Clipper().feed(torch.ones(rows, ENTRIES), groups_of([2, 1]))


class Layers(nn.Module):
    """Every kind of layer with a rule of its own: embeddings, a shared input, norms, a layer used twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(7, width, padding_idx=0)
        self.places = nn.Embedding(80, width)
        self.norm = nn.LayerNorm(width)
        self.bare_norm = nn.LayerNorm(width, bias=False)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.twice = nn.Linear(width, width)
        self.down, self.up = nn.Linear(width, 1, bias=False), nn.Linear(1, width, bias=False)
        self.head = nn.Linear(width, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1]).expand_as(tokens)
        hidden = self.norm(self.words(tokens) + self.places(places))
        hidden = hidden + torch.tanh(self.query(hidden) * self.key(hidden)) + self.up(self.down(hidden))
        hidden = self.twice(torch.tanh(self.twice(self.bare_norm(hidden))))
        shown = (tokens != 0).unsqueeze(2)
        logits: torch.Tensor = self.head((hidden * shown).sum(1))
        return logits


def factor(norm: float, max_grad_norm: float, clipping: Clipping) -> float:
    """What a unit's gradient is multiplied with, by the formulas of the papers."""
    bound = max_grad_norm * (1 - ROUNDING_MARGIN)
    return bound / (norm + STABILITY) if clipping == "automatic" else min(1.0, bound / norm)


def looped(
    network: nn.Module, tokens: torch.Tensor, units: Units, max_grad_norm: float, clipping: Clipping
) -> list[torch.Tensor]:
    """The clipped sum by a backward pass for each row alone, units clipped in float64."""
    parameters = list(network.parameters())
    total = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    for unit in units.index.unique().tolist():
        own = [torch.zeros_like(each) for each in total]
        for row in (units.index == unit).nonzero().flatten().tolist():
            loss = nn.functional.cross_entropy(network(tokens[row : row + 1]), LABEL)
            gradients = torch.autograd.grad(loss * units.weights[row], parameters)
            own = [each + gradient for each, gradient in zip(own, gradients, strict=True)]
        norm = math.sqrt(sum(float(each.square().sum()) for each in own))
        scale = factor(norm, max_grad_norm, clipping)
        total = [each + scale * one for each, one in zip(total, own, strict=True)]
    return total


LABEL = torch.tensor([1])


def losses_of(clipped: ClippedBackward, tokens: torch.Tensor) -> torch.Tensor:
    """Loss of each row, ``(rows,)``."""
    return nn.functional.cross_entropy(clipped(tokens=tokens), LABEL.expand(len(tokens)), reduction="none")


class TestExactness:
    """Against one backward pass for each row (issue: relative error below 1e-5 in float32)."""

    @settings(deadline=None, max_examples=60)
    @given(
        st.integers(0, 2**32 - 1),
        st.lists(st.integers(1, 3), min_size=1, max_size=4),
        st.integers(1, 12),
        st.sampled_from([2, 8, 24]),
        st.sampled_from([1e-2, 1.0, 100.0]),
        st.sampled_from(["flat", "automatic"]),
    )
    @example(seed=1, sizes=[1, 2], tokens=70, width=160, max_grad_norm=1.0, clipping="flat")
    def test_p12_sums_equal_those_of_single_rows_for_every_kind_of_layer(
        self, seed: int, sizes: list[int], tokens: int, width: int, max_grad_norm: float, clipping: Clipping
    ) -> None:
        """Repeated tokens, padding, shared inputs, narrow and wide layers (both products), groups of rows.

        The example has more tokens than one strip of products, and not a whole number of strips.
        """
        torch.manual_seed(seed)
        network = Layers(width)
        drawn = torch.randint(0, 7, (sum(sizes), tokens))
        drawn[:, 0] = 3
        units = groups_of(sizes)
        parameters = list(network.parameters())
        clipped = ClippedBackward(network, parameters, max_grad_norm, clipping)
        logits = clipped(tokens=drawn)
        clipped.backward(nn.functional.cross_entropy(logits, LABEL.expand(len(drawn)), reduction="none"), units)
        clipped.cleanup()
        wanted = looped(network, drawn, units, max_grad_norm, clipping)
        error = sum(
            float((parameter.summed_grad.double() - one).square().sum())
            for parameter, one in zip(parameters, wanted, strict=True)
        )
        assert math.sqrt(error / sum(float(one.square().sum()) for one in wanted)) < 1e-5

    def test_p12_nothing_below_the_lowest_trainable_layer_is_back_propagated(self) -> None:
        network = Layers(8)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("head"))
        clipped = ClippedBackward(network, list(network.head.parameters()), 1.0)
        seen: list[str] = []
        network.twice.register_full_backward_hook(lambda *_: seen.append("twice"))
        losses = nn.functional.cross_entropy(clipped(tokens=torch.ones(3, 4, dtype=torch.int64)), LABEL.expand(3))
        clipped.backward(losses.expand(3))
        assert not seen

    def test_p12_physical_batches_of_every_kind_of_layer_add_up_to_the_logical_one(self) -> None:
        """The second batch's sums are added in place to the first's."""
        tokens = torch.randint(0, 7, (6, 9), generator=torch.Generator().manual_seed(3))
        sums = []
        for parts in ([tokens], [tokens[:4], tokens[4:]]):
            torch.manual_seed(5)
            network = Layers(24)
            clipped = ClippedBackward(network, list(network.parameters()), 0.5)
            for part in parts:
                clipped.backward(losses_of(clipped, part))
            sums.append([parameter.summed_grad for parameter in network.parameters()])
        for one, two in zip(*sums, strict=True):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)

    def test_p12_gradient_checkpointing_changes_nothing(self) -> None:
        """Layers are called a second time in the backward pass, where nothing may be remembered again."""
        tokens = torch.randint(1, 7, (4, 5), generator=torch.Generator().manual_seed(3))
        sums = []
        for checkpointed in (False, True):
            torch.manual_seed(5)
            network = Layers(24)
            if checkpointed:
                own = network.forward
                network.forward = lambda tokens, own=own: checkpoint(own, tokens, use_reentrant=False)  # type: ignore[method-assign]
            clipped = ClippedBackward(network, list(network.parameters()), 0.5)
            clipped.backward(losses_of(clipped, tokens))
            clipped.cleanup()
            sums.append([parameter.summed_grad for parameter in network.parameters()])
        for one, two in zip(*sums, strict=True):
            assert torch.equal(one, two)

    def test_biases_alone_keep_no_inputs(self) -> None:
        """Their gradients are those of the outputs: memory that hooks would hold until the end is free at once."""
        network = Layers(24)
        biases = [parameter for name, parameter in network.named_parameters() if name.endswith("bias")]
        clipped = ClippedBackward(network, biases, 0.5)
        clipped(tokens=torch.ones(2, 5, dtype=torch.int64))
        assert len(clipped._calls) == 5
        assert all(call.inputs is None for call in clipped._calls)

    def test_p12_a_layer_that_the_losses_do_not_depend_on_has_a_gradient_of_zero(self) -> None:
        network = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 3)})

        def forward(rows: torch.Tensor) -> torch.Tensor:
            network["unused"](rows)
            found: torch.Tensor = network["used"](rows)
            return found

        network.forward = forward  # type: ignore[method-assign]
        clipped = ClippedBackward(network, list(network.parameters()), 1.0)
        clipped.backward(clipped(rows=torch.ones(3, 2)).sum(1))
        assert not network["unused"].weight.summed_grad.any()
        assert network["used"].weight.summed_grad.all()

    def test_an_unknown_layer_is_left_to_opacus_with_one_line_in_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.layer_rules._tell_once.cache_clear()
        network = nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten())
        rows = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(3))
        parameters = list(network.parameters())
        clipped = ClippedBackward(network, parameters, 0.5)
        for _ in range(2):
            for parameter in parameters:
                parameter.summed_grad = None
            clipped.backward(clipped(input=rows).square().sum(1))
        clipped.cleanup()
        assert len([record for record in caplog.records if "Conv1d" in record.getMessage()]) == 1
        wanted = [torch.zeros_like(parameter) for parameter in parameters]
        for row in rows:
            gradients = torch.autograd.grad(network(row.unsqueeze(0)).square().sum(), parameters)
            norm = math.sqrt(sum(float(each.square().sum()) for each in gradients))
            for total, each in zip(wanted, gradients, strict=True):
                total += each * min(1.0, 0.5 * (1 - ROUNDING_MARGIN) / norm)
        for parameter, one in zip(parameters, wanted, strict=True):
            assert torch.allclose(parameter.summed_grad, one, rtol=1e-4, atol=1e-6)


@pytest.fixture
def _numbers_as_before() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


class TestGram:
    """Norms without gradients are never too small, also where tokens cancel (P12)."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("cancelling", [0.0, 1e-6, 1e-3, 1.0])
    def test_p12_the_contribution_of_ten_thousand_extreme_sequences_is_at_most_c(
        self, dtype: torch.dtype, cancelling: float
    ) -> None:
        """Six tokens, of which three undo the others but for a share ``cancelling``; magnitudes over 16 decades.

        Contributions are formed in float64 from the very factors that the sum uses.
        """
        generator = torch.Generator().manual_seed(8)
        magnitude = torch.logspace(-8, 8, EXTREMES).view(-1, 1, 1)
        half = torch.randn(EXTREMES, 3, 40, generator=generator)
        inputs = torch.cat([half, half], 1).to(dtype).float()
        given = torch.randn(EXTREMES, 3, 40, generator=generator) * magnitude
        outputs = torch.cat([given, -given * (1 - cancelling)], 1).to(dtype).float()
        gradient = weight_gradient(torch.zeros(40, 40), SharedInput(inputs), outputs)
        assert isinstance(gradient, WeightGradient)
        factors = clip_factors(gradient.squared_norms(), 1.0)
        exact = torch.einsum("utd,utp->udp", outputs.double(), inputs.double()).flatten(1).norm(dim=1)
        assert float((exact * factors.double()).max()) <= 1.0
        chosen = torch.arange(0, EXTREMES, 97)
        for unit in chosen.tolist():
            one = torch.zeros(EXTREMES)
            one[unit] = factors[unit]
            assert float(gradient.weighted_sum(one).double().norm()) <= 1.0
        if cancelling == 1.0:
            large = exact > 10
            assert float((exact * factors.double())[large].min()) > 0.99, "clipping to nothing would pass as well"

    @pytest.mark.parametrize("flushed", [False, True])
    @pytest.mark.usefixtures("_numbers_as_before")
    def test_p12_tiny_inputs_with_huge_gradients_stay_within_c(self, flushed: bool) -> None:
        """Squares of such inputs are zero in float32: a norm taken of them alone let more than C through.

        Some processors also take what is below float32's normal numbers for zero, which here is asked for.
        """
        if flushed and not torch.set_flush_denormal(True):
            pytest.skip("this processor keeps such numbers")
        generator = torch.Generator().manual_seed(9)
        small = torch.logspace(-37, -3, EXTREMES).view(-1, 1, 1)
        large = 10.0 ** torch.empty(EXTREMES, 1, 1).uniform_(-1, 6, generator=generator) / small
        drawn = torch.randn(2, EXTREMES, 6, 40, generator=generator)
        for inputs, outputs in (
            (drawn[0] * small, drawn[1] * large.clamp(max=1e19) / 40),
            (drawn[0] * large.clamp(max=1e19) / 40, drawn[1] * small),
        ):
            gradient = weight_gradient(torch.zeros(40, 40), SharedInput(inputs), outputs)
            assert isinstance(gradient, WeightGradient)
            for max_grad_norm in (1e-5, 1.0):
                factors = clip_factors(gradient.squared_norms(), max_grad_norm)
                exact = torch.einsum("utd,utp->udp", outputs.double(), inputs.double()).flatten(1).norm(dim=1)
                assert float((exact * factors.double()).max()) <= max_grad_norm


class TestUnclipped:
    """What must never pass."""

    def test_p12_tied_weights_are_refused(self) -> None:
        network = Layers(8)
        network.key.weight = network.query.weight
        with pytest.raises(HanseError, match=r"shared by two layers \(tied weights\)"):
            ClippedBackward(network, list(network.parameters()), 1.0)

    def test_p12_a_parameter_whose_layer_is_never_called_is_an_error(self) -> None:
        clipper = Clipper()
        network = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(3, 5)})
        network.forward = lambda rows: network["used"](rows)  # type: ignore[method-assign]
        clipped = ClippedBackward(network, list(network.parameters()), 1.0)
        with pytest.raises(HanseError, match=r"shape \(5, 3\) has no gradient by row and would go unclipped"):
            clipped.backward(clipped(rows=torch.ones(3, 2)).sum(1))
        assert all(getattr(parameter, "summed_grad", None) is None for parameter in network.parameters())
        assert clipper is not None

    def test_p12_a_parameter_that_is_no_part_of_the_network_is_an_error(self) -> None:
        with pytest.raises(HanseError, match="does not belong to the network"):
            ClippedBackward(nn.Linear(2, 2), [nn.Parameter(torch.ones(1))], 1.0)

    def test_p12_a_layer_that_mixes_rows_is_an_error(self) -> None:
        """A broadcast input gives gradients of a batch of one (Opacus #841): never summed."""
        network = nn.ModuleDict({"places": nn.Embedding(4, 2), "head": nn.Linear(2, 2)})

        def forward(rows: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network["head"](rows + network["places"](torch.zeros(1, dtype=torch.int64)))
            return logits

        network.forward = forward  # type: ignore[method-assign]
        clipped = ClippedBackward(network, list(network.parameters()), 1.0)
        with pytest.raises(HanseError, match="a trainable Embedding saw 1 rows in a batch of 3: it mixes rows"):
            clipped.backward(clipped(rows=torch.ones(3, 2)).sum(1))

    def test_p12_an_input_that_was_changed_in_place_is_an_error(self) -> None:
        """Norm and sum would be those of another input than the layer's."""
        network = nn.ModuleDict({"layer": nn.Linear(2, 2)})

        def forward(rows: torch.Tensor) -> torch.Tensor:
            hidden = 2 * rows
            logits: torch.Tensor = network["layer"](hidden)
            hidden.add_(1)
            return logits

        network.forward = forward  # type: ignore[method-assign]
        clipped = ClippedBackward(network, list(network.parameters()), 1.0)
        with pytest.raises(HanseError, match="the input of a trainable Linear was changed in place"):
            clipped.backward(clipped(rows=torch.ones(3, 2)).sum(1))

    def test_p12_a_layer_without_any_rule_is_an_error(self) -> None:
        class Scale(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.ones(2))

            def forward(self, rows: torch.Tensor) -> torch.Tensor:
                return rows * self.factor

        network = Scale()
        clipped = ClippedBackward(network, list(network.parameters()), 1.0)
        with pytest.raises(HanseError, match="kind Scale has no rule for gradients by row"):
            clipped.backward(clipped(rows=torch.ones(3, 2)).sum(1))

    def test_p12_no_plain_gradient_is_left_on_a_parameter(self) -> None:
        """``.grad`` would be the unclipped sum."""
        clipper = Clipper()
        clipper.feed(torch.ones(4, ENTRIES))
        assert all(parameter.grad is None for parameter in clipper.params)
        assert all(parameter.requires_grad for parameter in clipper.params)
