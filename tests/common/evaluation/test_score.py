"""Every figure agrees with scikit-learn, with a slow loop, or with a calculation by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from common.errors import BadInput
from common.evaluation import ClassScore, Score, ScoreCounts
from tests.common.evaluation.strategies import WILD_LOGITS, predictions

FIGURES = [
    "examples",
    "loss",
    "accuracy",
    "macro_f1",
    "matthews_correlation",
    "expected_calibration_error",
    "classes",
    "reliability",
    "counts",
]

GOLDEN = (0.713, 0.7127074318712102, 0.6171994530280084, 0.7798403169288937)
"""accuracy_score, f1_score (macro), matthews_corrcoef and log_loss, by scikit-learn 1.9.1."""


def score(logits, targets):
    return Score(ScoreCounts.of(logits, targets))


def score_of_labels(true, predicted, labels):
    """Score predicted labels, given with a confidence of at most 0.73."""
    return score(np.eye(labels)[predicted], true)


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def calibration_error_by_loop(logits, targets, bins):
    """Guo et al. 2017, equation 3, bin by bin and example by example.

    What is predicted is read off the logits: two that differ may have equal probabilities.
    """
    examples = list(zip(softmax(logits).max(axis=1), logits.argmax(axis=1) == targets, strict=True))
    error = 0.0
    for which in range(bins):
        inside = [(c, hit) for c, hit in examples if which / bins < c <= (which + 1) / bins]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / len(targets) * abs(accuracy - confidence)
    return error


class TestWorkedExample:
    """Ten reviews, 6 negative and 4 positive; 5 and 3 of them found. All by hand."""

    true = (0, 0, 0, 0, 0, 0, 1, 1, 1, 1)
    # Confidence 3/4 for each, so the loss is ln(4/3) for a hit and ln 4 for a miss.
    logits = np.log(3.0) * np.eye(2)[[0, 0, 0, 0, 0, 1, 1, 1, 1, 0]]

    def test_every_figure(self):
        ten = score(self.logits, self.true)
        assert ten.examples == 10
        assert ten.confusion == ((5, 1), (1, 3))
        assert ten.accuracy == 0.8
        assert ten.loss == pytest.approx(0.8 * math.log(4 / 3) + 0.2 * math.log(4), abs=1e-12)
        assert ten.classes[0] == ClassScore(precision=5 / 6, recall=5 / 6, f1=10 / 12, support=6)
        assert ten.classes[1] == ClassScore(precision=3 / 4, recall=3 / 4, f1=6 / 8, support=4)
        assert ten.macro_f1 == pytest.approx((5 / 6 + 3 / 4) / 2, abs=1e-15)
        # (5 * 3 - 1 * 1) / sqrt(6 * 4 * 6 * 4)
        assert ten.matthews_correlation == pytest.approx(14 / 24, abs=1e-15)
        assert ten.expected_calibration_error == pytest.approx(0.05, abs=1e-11)

    def test_reliability_curve(self):
        curve = score(self.logits, self.true).reliability
        assert len(curve) == 15
        assert (curve[0].lower, curve[-1].upper) == (0.0, 1.0)
        assert [point.examples for point in curve] == [0] * 11 + [10] + [0] * 3
        assert (curve[11].lower, curve[11].upper) == (11 / 15, 12 / 15)
        assert curve[11].confidence == pytest.approx(0.75, abs=1e-11)
        assert curve[11].accuracy == 0.8
        assert curve[3].confidence is curve[3].accuracy is None


class TestAgainstScikitLearn:
    """The same figures from an independent source."""

    @pytest.mark.filterwarnings("ignore:A single label was found")
    @settings(deadline=None)
    @given(predictions())
    def test_random_predictions(self, drawn):
        logits, targets = drawn
        every = range(logits.shape[1])
        predicted = logits.argmax(axis=1)
        ours = score(logits, targets)
        assert ours.accuracy == pytest.approx(accuracy_score(targets, predicted), abs=1e-12)
        assert ours.macro_f1 == pytest.approx(
            f1_score(targets, predicted, labels=every, average="macro", zero_division=0), abs=1e-12
        )
        assert ours.matthews_correlation == pytest.approx(matthews_corrcoef(targets, predicted), abs=1e-12)
        assert ours.loss == pytest.approx(log_loss(targets, softmax(logits), labels=every), abs=1e-9)
        per_class = precision_recall_fscore_support(targets, predicted, labels=every, zero_division=0)
        expected = np.transpose(per_class)
        actual = [(each.precision, each.recall, each.f1, each.support) for each in ours.classes]
        assert np.allclose(actual, expected, rtol=0, atol=1e-12)

    def test_two_thousand_seeded_predictions(self):
        """Golden values on numpy's default_rng(7) and 4 labels, to a tolerance of 1e-9."""
        random = np.random.default_rng(7)
        targets = random.integers(0, 4, size=2000)
        logits = random.normal(size=(2000, 4)) + 1.5 * np.eye(4)[targets]
        ours = score(logits, targets)
        assert (
            ours.accuracy,
            ours.macro_f1,
            ours.matthews_correlation,
            ours.loss,
        ) == pytest.approx(GOLDEN, abs=1e-9)


class TestEdges:
    """Where a formula has no denominator."""

    def test_no_examples_are_refused(self):
        with pytest.raises(BadInput, match="no examples to score"):
            Score(ScoreCounts.zero(2))

    def test_a_label_without_support_counts_zero(self):
        ours = score_of_labels([0, 0, 1], [0, 2, 1], labels=4)
        assert ours.classes[2] == ClassScore(precision=0.0, recall=0.0, f1=0.0, support=0)
        assert ours.classes[3] == ClassScore(precision=0.0, recall=0.0, f1=0.0, support=0)
        assert ours.macro_f1 == pytest.approx((2 / 3 + 1) / 4)

    def test_a_label_never_predicted_counts_zero(self):
        assert score_of_labels([0, 1], [0, 0], labels=2).classes[1] == ClassScore(0.0, 0.0, 0.0, 1)

    @pytest.mark.parametrize(("true", "predicted"), [([1, 1], [1, 1]), ([0, 0], [0, 1]), ([0, 1], [0, 0])])
    def test_correlation_is_zero_where_one_side_never_varies(self, true, predicted):
        assert score_of_labels(true, predicted, labels=2).matthews_correlation == 0.0

    def test_correlation_of_perfect_and_of_reversed_answers(self):
        assert score_of_labels([0, 1, 2], [0, 1, 2], labels=3).matthews_correlation == 1.0
        assert score_of_labels([0, 1, 1], [1, 0, 0], labels=2).matthews_correlation == -1.0

    def test_a_uniform_guess_loses_the_logarithm_of_the_labels(self):
        assert score(np.zeros((6, 5)), [0, 1, 2, 3, 4, 0]).loss == pytest.approx(math.log(5), abs=1e-11)


class TestCalibration:
    """Expected calibration error."""

    @settings(deadline=None)
    @given(predictions())
    def test_agrees_with_a_naive_loop(self, drawn):
        logits, targets = drawn
        confidence = softmax(logits).max(axis=1) * 15
        if np.abs(confidence - np.rint(confidence)).min() < 1e-9:
            return  # on the edge of a bin the loop's rounding decides, not the formula
        expected = calibration_error_by_loop(logits, targets, bins=15)
        assert score(logits, targets).expected_calibration_error == pytest.approx(expected, abs=1e-10)

    def test_certain_and_always_wrong_is_the_worst(self):
        assert score([[100.0, 0.0]] * 4, [1] * 4).expected_calibration_error == 1.0

    def test_certain_and_always_right_is_the_best(self):
        assert score([[100.0, 0.0]] * 4, [0] * 4).expected_calibration_error == 0.0


@settings(deadline=None)
@given(predictions(values=WILD_LOGITS))
def test_every_figure_is_finite_and_within_its_bounds(drawn):
    ours = score(*drawn)
    shares = [ours.accuracy, ours.macro_f1, ours.expected_calibration_error]
    shares += [value for each in ours.classes for value in (each.precision, each.recall, each.f1)]
    shares += [
        value for point in ours.reliability if point.examples for value in (point.accuracy, point.confidence)
    ]
    assert all(0.0 <= value <= 1.0 for value in shares)
    assert -1.0 <= ours.matthews_correlation <= 1.0
    assert 0.0 <= ours.loss < math.inf
    assert sum(each.support for each in ours.classes) == ours.examples
    assert sum(point.examples for point in ours.reliability) == ours.examples
    for point in ours.reliability:
        assert point.examples == 0 or point.lower - 1e-11 <= point.confidence <= point.upper


@settings(deadline=None)
@given(predictions(), st.randoms())
def test_the_order_of_examples_moves_no_bit(drawn, random):
    logits, targets = drawn
    order = list(range(len(targets)))
    random.shuffle(order)
    assert score(logits[order], targets[order]).to_json() == score(logits, targets).to_json()


class TestJson:
    """A score as plain data, and back."""

    @settings(deadline=None)
    @given(predictions(values=WILD_LOGITS))
    def test_round_trip_is_exact(self, drawn):
        ours = score(*drawn)
        written = json.dumps(ours.to_json(), allow_nan=False)
        assert Score.from_json(json.loads(written)) == ours
        assert json.dumps(Score.from_json(json.loads(written)).to_json()) == written

    def test_keys_are_stable(self):
        value = score_of_labels([0, 1], [0, 1], labels=2).to_json()
        assert list(value) == FIGURES
        assert list(value["classes"][0]) == ["precision", "recall", "f1", "support"]
        assert list(value["reliability"][0]) == ["lower", "upper", "examples", "confidence", "accuracy"]

    def test_a_whole_number_may_lose_its_point(self):
        value = score_of_labels([0, 1], [0, 1], labels=2).to_json()
        assert Score.from_json({**value, "accuracy": 1}).accuracy == 1.0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"accuracy": 0.9}, r"score.accuracy = 0.9: the counts give 0.5"),
            ({"accuracy": math.nan}, "score.accuracy = nan"),
            ({"accuracy": None}, "score.accuracy = None"),
            ({"accuracy": "0.5"}, "score.accuracy = '0.5'"),
            ({"loss": 10**4000}, "score.loss = 1000"),
            ({"examples": True}, "score.examples = True"),
            ({"extra": 1}, "score: must be an object with the keys examples, loss"),
            ({"classes": []}, "score.classes: must be a list of 2"),
            ({"classes": [None, None]}, r"score.classes\[0\]: must be an object with the keys precision"),
            ({"reliability": "x" * 15}, "score.reliability: must be a list of 15"),
            ({"counts": {}}, "score counts: must be an object"),
        ],
    )
    def test_a_figure_that_its_counts_do_not_give_is_refused(self, changes, message):
        value = score_of_labels([0, 1], [0, 0], labels=2).to_json()
        with pytest.raises(BadInput, match=message):
            Score.from_json({**value, **changes})

    @pytest.mark.parametrize("value", [None, [], "score", {"accuracy": 1.0}])
    def test_anything_else_is_refused(self, value):
        with pytest.raises(BadInput, match="must be an object with the key counts"):
            Score.from_json(value)
