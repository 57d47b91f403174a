"""Counts are exact: they add up, whatever the order and the cut, and refuse what cannot be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss

from common.errors import BadInput, RunFailed
from common.evaluation import CONFIDENCE_BINS, FIXED_POINT_ONE, ScoreCounts
from tests.common.evaluation.strategies import WILD_LOGITS, predictions


def by_naive_loop(logits, targets):
    """Count one example at a time with math.exp, to within rounding of each sum."""
    labels = logits.shape[1]
    confusion = [[0] * labels for _ in range(labels)]
    confidence_sum = 0.0
    loss_sum = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        total = math.fsum(math.exp(value - max(row)) for value in row)
        confusion[target][row.index(max(row))] += 1
        confidence_sum += 1 / total
        loss_sum += math.log(total) - (row[target] - max(row))
    return confusion, confidence_sum, loss_sum


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def valid(**changes):
    """Return the JSON form of two examples' counts, with some keys changed."""
    value = ScoreCounts.of([[2.0, 0.0], [0.0, 1.0]], [0, 0]).to_json()
    return {**value, **changes}


class TestOf:
    """Counting rows of logits."""

    def test_three_examples_by_hand(self):
        # Confidences 3/4, 1/2 (a tie: the first label wins) and 4/5; the last is wrong.
        logits = np.log([[3.0, 1.0], [1.0, 1.0], [1.0, 4.0]])
        counts = ScoreCounts.of(logits, [0, 0, 0])
        assert counts.confusion == ((2, 1), (0, 0))
        assert (counts.examples, counts.correct, counts.labels) == (3, 2, 2)
        # 0.5 * 15 = 7.5 -> bin 7; 0.75 * 15 = 11.25 -> bin 11; 0.8 * 15 = 12, or a hair beside it.
        assert counts.bin_examples[7] == counts.bin_examples[11] == 1
        assert counts.bin_confidence_sum[7] == FIXED_POINT_ONE // 2
        assert counts.bin_confidence_sum[11] == FIXED_POINT_ONE * 3 // 4
        assert counts.bin_correct[7] == counts.bin_correct[11] == 1
        assert counts.loss_sum / FIXED_POINT_ONE == pytest.approx(math.log(4 / 3 * 2 * 5), abs=1e-11)

    def test_certainty_falls_in_the_last_bin(self):
        counts = ScoreCounts.of([[1000.0, -1000.0]], [0])
        assert counts.bin_examples[-1] == 1
        assert counts.bin_confidence_sum[-1] == FIXED_POINT_ONE
        assert counts.loss_sum == 0

    def test_bins_are_closed_above_and_open_below(self):
        # With 15 equal logits the confidence is 1/15 rounded to 2**-40, which is below 1/15: bin 0.
        assert ScoreCounts.of(np.zeros((1, 15)), [0]).bin_examples[0] == 1
        # With 3 equal logits it is 1/3 = 5/15, rounded below: bin 4, not 5.
        assert ScoreCounts.of(np.zeros((1, 3)), [0]).bin_examples[4] == 1

    @settings(deadline=None)
    @given(predictions())
    def test_agrees_with_a_naive_loop_and_with_scikit_learn(self, drawn):
        logits, targets = drawn
        labels = logits.shape[1]
        counts = ScoreCounts.of(logits, targets)
        confusion, confidence_sum, loss_sum = by_naive_loop(logits, targets)
        assert [list(row) for row in counts.confusion] == confusion
        expected = confusion_matrix(targets, logits.argmax(axis=1), labels=range(labels))
        assert np.array_equal(counts.confusion, expected)
        assert sum(counts.bin_confidence_sum) / FIXED_POINT_ONE == pytest.approx(confidence_sum, abs=1e-9)
        assert counts.loss_sum / FIXED_POINT_ONE == pytest.approx(loss_sum, abs=1e-9)
        by_scikit_learn = log_loss(targets, softmax(logits), labels=range(labels), normalize=False)
        assert counts.loss_sum / FIXED_POINT_ONE == pytest.approx(by_scikit_learn, rel=1e-9, abs=1e-9)

    @settings(deadline=None)
    @given(predictions(values=WILD_LOGITS))
    def test_every_finite_float32_can_be_scored(self, drawn):
        counts = ScoreCounts.of(*drawn)
        assert counts.examples == len(drawn[1])
        assert counts.loss_sum >= 0

    def test_losses_too_large_for_64_bits_add_up_exactly(self):
        counts = ScoreCounts.of([[0.0, 2.0**100]] * 3, [0, 0, 0])
        assert counts.loss_sum == 3 * 2**100 * FIXED_POINT_ONE

    @settings(deadline=None)
    @given(predictions(smallest=2))
    def test_memory_layout_and_type_do_not_matter(self, drawn):
        logits, targets = drawn
        once = ScoreCounts.of(logits, targets)
        assert ScoreCounts.of(np.asfortranarray(logits), targets.astype(np.int8)) == once
        assert ScoreCounts.of(logits.tolist(), targets.tolist()) == once
        assert ScoreCounts.of(np.repeat(logits, 2, axis=0)[::2], targets) == once

    def test_arguments_are_left_as_they_were(self):
        logits, targets = np.array([[1.0, 3.0]]), np.array([1])
        ScoreCounts.of(logits, targets)
        assert np.array_equal(logits, [[1.0, 3.0]])
        assert np.array_equal(targets, [1])

    def test_no_examples_are_zero(self):
        assert ScoreCounts.of(np.empty((0, 3)), []) == ScoreCounts.zero(3)
        assert ScoreCounts.zero(3).examples == 0

    @pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
    def test_non_finite_rows_are_counted_and_reported(self, poison):
        logits = np.zeros((5, 2))
        logits[1, 0] = logits[4, 1] = poison
        with pytest.raises(RunFailed, match=r"2 of 5 rows have non-finite logits"):
            ScoreCounts.of(logits, [0, 1, 0, 1, 0])

    def test_finite_logits_with_an_infinite_loss_are_reported(self):
        with pytest.raises(RunFailed, match="1 of 2 rows"):
            ScoreCounts.of([[1e308, -1e308], [0.0, 0.0]], [1, 0])

    @pytest.mark.parametrize(
        ("logits", "targets", "message"),
        [
            ([1.0, 2.0], [0], r"logits of shape \(2,\)"),
            ([[1.0], [2.0]], [0, 0], "at least 2 labels"),
            ([[1.0, 2.0]], [0, 1], r"targets of shape \(2,\): must be \(1,\)"),
            ([[1.0, 2.0]], [[0]], r"targets of shape \(1, 1\)"),
            ([[1.0, 2.0]], [0.0], "must be integers"),
            ([[1.0, 2.0]], [True], "must be integers"),
            ([[1.0, 2.0], [1.0, 2.0]], [0, 2], r"targets\[1\] = 2: must be from 0 to 1 \(1 of 2 are not\)"),
            ([[1.0, 2.0]], [-100], r"targets\[0\] = -100: must be from 0 to 1"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, logits, targets, message):
        with pytest.raises(BadInput, match=message):
            ScoreCounts.of(logits, targets)


class TestMerge:
    """Adding counts up."""

    @settings(deadline=None)
    @given(predictions(labels=3), predictions(labels=3), predictions(labels=3))
    def test_is_associative_and_commutative_to_the_bit(self, first, second, third):
        a, b, c = (ScoreCounts.of(*drawn) for drawn in (first, second, third))
        assert (a + b) + c == a + (b + c)
        assert a + b == b + a == a.merge(b)
        assert a + ScoreCounts.zero(3) == ScoreCounts.zero(3) + a == a

    @settings(deadline=None)
    @given(predictions(values=WILD_LOGITS | st.floats(-20, 20, width=32)), st.randoms(), st.data())
    def test_any_cut_in_any_order_equals_everything_at_once(self, drawn, random, data):
        logits, targets = drawn
        order = list(range(len(targets)))
        random.shuffle(order)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=6)))
        edges = zip([0, *cuts], [*cuts, len(order)], strict=True)
        parts = [ScoreCounts.of(logits[order[a:b]], targets[order[a:b]]) for a, b in edges]
        assert sum(parts, ScoreCounts.zero(logits.shape[1])) == ScoreCounts.of(logits, targets)

    def test_a_sum_of_floats_would_not_do(self):
        """The negative control: the same property fails for plain floating-point losses."""
        losses = np.random.default_rng(0).exponential(size=1000)
        sums = {sum(np.random.default_rng(seed).permutation(losses).tolist()) for seed in range(20)}
        assert len(sums) > 1

    def test_other_labels_are_refused(self):
        with pytest.raises(BadInput, match="over 2 and over 3 labels"):
            ScoreCounts.zero(2) + ScoreCounts.zero(3)


class TestJson:
    """Counts as plain data, and back."""

    @settings(deadline=None)
    @given(predictions(values=WILD_LOGITS, smallest=0))
    def test_round_trip_is_exact(self, drawn):
        counts = ScoreCounts.of(*drawn)
        assert ScoreCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts

    def test_keys_are_stable(self):
        assert list(ScoreCounts.zero(2).to_json()) == [
            "confusion",
            "bin_examples",
            "bin_correct",
            "bin_confidence_sum",
            "loss_sum",
        ]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, "must be an object with the keys"),
            ({}, "must be an object with the keys"),
            (valid(extra=1), "must be an object with the keys"),
            (valid(confusion="2"), "confusion: must be a list of rows"),
            (valid(confusion=[]), "square matrix over at least 2 labels"),
            (valid(confusion=[[2]]), "square matrix over at least 2 labels"),
            (valid(confusion=[[1, 1], [0]]), "square matrix"),
            (valid(confusion=[[1, 1], None]), "confusion: must be a list of integers"),
            (valid(confusion=[[1.0, 1], [0, 0]]), "confusion: must hold integers only"),
            (valid(confusion=[[True, 1], [0, 0]]), "confusion: must hold integers only"),
            (valid(confusion=[[1, 1], [1, -1]]), "no count or sum may be negative"),
            (valid(confusion=[[2, 1], [0, 0]]), "bin_examples: add up to 2, not to 3"),
            (valid(confusion=[[2, 0], [0, 0]]), "bin_correct: add up to 1, not to 2"),
            (valid(bin_examples=[2]), f"must have {CONFIDENCE_BINS} numbers"),
            (valid(bin_correct=[1] + [0] * 14), r"bin_correct\[0\] = 1: more than its 0 examples"),
            (valid(bin_confidence_sum=[0] * 15), r"bin_confidence_sum\[10\]: outside the bounds"),
            (valid(loss_sum=None), "loss_sum: must hold integers only"),
            (valid(loss_sum=-1), "no count or sum may be negative"),
            (valid(loss_sum=10**4000), "larger than any"),
            (valid(confusion=[[10**4000, 1], [0, 0]]), "larger than any"),
        ],
    )
    def test_what_no_scoring_produces_is_refused(self, value, message):
        with pytest.raises(BadInput, match=message):
            ScoreCounts.from_json(value)
