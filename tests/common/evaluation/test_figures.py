"""Figures, intervals, thresholds and slices agree with scikit-learn and with what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.errors import BadInput
from common.evaluation.bootstrap import entity_interval, intervals
from common.evaluation.entities import EntityScore
from common.evaluation.evaluate import evaluate_logits
from common.evaluation.figures import Figures, Predictions
from common.evaluation.report import report_on_texts
from common.evaluation.score import Score
from common.evaluation.slices import length_names, slices
from common.evaluation.thresholds import Thresholds
from tests.common.evaluation.strategies import predictions


def made(examples: int, labels: int = 3, seed: int = 0, skill: float = 1.5) -> Predictions:
    generator = np.random.default_rng(seed)
    targets = generator.integers(labels, size=examples)
    logits = generator.normal(size=(examples, labels)) + skill * np.eye(labels)[targets]
    return Predictions(logits.astype(np.float32), targets, tuple("abcdefg"[:labels]))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30)
@given(predictions())
def test_figures_are_those_of_scikit_learn(drawn):
    logits, targets = drawn
    labels = logits.shape[1]
    given_ = Predictions(logits, targets, tuple(map(str, range(labels))))
    found, every = Figures.of(given_), range(labels)
    guess, chances = given_.predicted, given_.probabilities
    options = {"labels": every, "zero_division": 0}
    assert found.micro_f1 == pytest.approx(f1_score(targets, guess, average="micro", **options))
    assert found.micro_f1 == pytest.approx(evaluate_logits(logits, targets).overall.accuracy)
    assert found.weighted_f1 == pytest.approx(f1_score(targets, guess, average="weighted", **options))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, guess))
    brier = brier_score_loss(targets, chances if labels > 2 else chances[:, 1], labels=every, scale_by_half=False)
    assert found.brier == pytest.approx(brier, abs=1e-9)
    for label in every:
        true = targets == label
        if not true.any() or true.all():
            assert found.auroc_by_label[str(label)] is found.average_precision_by_label[str(label)] is None
            continue
        assert found.auroc_by_label[str(label)] == pytest.approx(roc_auc_score(true, chances[:, label]))
        expected = average_precision_score(true, chances[:, label])
        assert found.average_precision_by_label[str(label)] == pytest.approx(expected)


def test_the_macro_auroc_is_scikit_learns_one_against_the_rest():
    drawn = made(300)
    expected = roc_auc_score(drawn.targets, drawn.probabilities, multi_class="ovr", average="macro")
    assert Figures.of(drawn).auroc == pytest.approx(expected)


class TestSavedPredictions:
    """Two sets that ship with scikit-learn, predicted by its own models; figures are those of its functions.

    Regenerate with the model in each test and scikit-learn 1.9.
    """

    def test_iris(self):
        features, targets = load_iris(return_X_y=True)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features, targets)
        logits = np.log(model.predict_proba(features)).astype(np.float32)
        found = report_on_texts(Predictions(logits, targets, ("setosa", "versicolor", "virginica")), {}).to_json()
        assert found["overall"]["counts"]["confusion"] == [[50, 0, 0], [0, 43, 7], [0, 4, 46]]
        for name, expected in IRIS.items():
            assert (found["overall"] | found["figures"])[name] == pytest.approx(expected, abs=1e-4), name

    def test_breast_cancer(self):
        features, targets = load_breast_cancer(return_X_y=True)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(features, targets)
        logits = np.log(model.predict_proba(features)).astype(np.float32)
        found = report_on_texts(Predictions(logits, targets, ("malignant", "benign")), {}).to_json()
        assert found["overall"]["counts"]["confusion"] == [[187, 25], [1, 356]]
        for name, expected in BREAST_CANCER.items():
            assert (found["overall"] | found["figures"])[name] == pytest.approx(expected, abs=1e-4), name


def test_the_published_report_of_scikit_learns_user_guide():
    """Section 3.4.3.3 (classification report): three classes, five examples, two decimals."""
    guess, targets = np.array([0, 0, 2, 2, 1]), np.array([0, 1, 2, 2, 2])
    drawn = Predictions(5 * np.eye(3, dtype=np.float32)[guess], targets, ("class 0", "class 1", "class 2"))
    found = report_on_texts(drawn, {}).to_json()
    rows = [[each["precision"], each["recall"], each["f1"]] for each in found["overall"]["classes"]]
    assert np.round(rows, 2).tolist() == [[0.5, 1.0, 0.67], [0.0, 0.0, 0.0], [1.0, 0.67, 0.8]]
    assert round(found["overall"]["accuracy"], 2) == 0.6
    assert round(found["overall"]["macro_f1"], 2) == 0.49
    assert round(found["figures"]["weighted_f1"], 2) == 0.61


class TestIntervals:
    """The bootstrap over whole texts."""

    def test_they_hold_the_figure_and_repeat_under_a_seed(self):
        drawn = made(400)
        found, again = intervals(drawn, seed=3), intervals(drawn, seed=3)
        assert found == again != intervals(drawn, seed=4)
        report = evaluate_logits(drawn.logits, drawn.targets).overall
        for name in ("accuracy", "macro_f1", "matthews_correlation", "loss"):
            assert found[name].low < getattr(report, name) < found[name].high
        assert found["brier"].low < Figures.of(drawn).brier < found["brier"].high

    def test_the_width_of_accuracys_is_the_binomial_one(self):
        """Normal approximation 1.96 sqrt(p (1 - p) / n); the bootstrap's own error at 1,000 draws: under 10 %."""
        drawn = made(1000)
        share = float((drawn.predicted == drawn.targets).mean())
        found = intervals(drawn, seed=1)["accuracy"]
        assert found.high - found.low == pytest.approx(2 * 1.96 * (share * (1 - share) / 1000) ** 0.5, rel=0.1)

    def test_words_of_a_text_stay_together(self):
        """Every text 25 times over: as uncertain as the texts are, not as the copies."""
        once = made(60)
        copies = np.repeat(np.arange(60), 25)
        clustered = Predictions(once.logits[copies], once.targets[copies], once.labels, copies)
        alone = Predictions(once.logits[copies], once.targets[copies], once.labels)
        width = {
            name: (found := intervals(given_, seed=1)["accuracy"]).high - found.low
            for name, given_ in {"once": once, "clustered": clustered, "alone": alone}.items()
        }
        assert width["clustered"] == pytest.approx(width["once"])
        assert width["alone"] < width["once"] / 3

    def test_entities(self):
        texts = [EntityScore(("X",), (n % 2,), (1,), (1,)) for n in range(200)]
        found = entity_interval(texts, seed=1)
        assert found.low < 0.5 < found.high
        assert found.high - found.low == pytest.approx(2 * 1.96 * (0.25 / 200) ** 0.5, rel=0.15)
        with pytest.raises(BadInput, match="no texts"):
            entity_interval([], seed=1)


class TestThresholds:
    """Where to draw the line."""

    @settings(max_examples=20)
    @given(st.integers(0, 10_000))
    def test_no_other_threshold_has_a_better_f1(self, seed):
        drawn = made(40, labels=2, seed=seed)
        for label, name in enumerate(drawn.labels):
            true, chances = drawn.targets == label, drawn.probabilities[:, label]
            best = Thresholds.of(drawn).by_label[name]
            if best is None:
                assert not true.any()
                continue
            every = [f1_score(true, chances >= threshold) for threshold in chances]
            assert best.f1 == pytest.approx(max(every))
            assert best.f1 == pytest.approx(f1_score(true, chances >= best.threshold))

    def test_coverage_falls_and_what_is_answered_is_counted_right(self):
        drawn = made(500)
        found = Thresholds.of(drawn).selective
        assert [each.coverage for each in found] == sorted((each.coverage for each in found), reverse=True)
        sure = drawn.probabilities.max(axis=1) >= 0.9
        (at,) = (each for each in found if each.confidence == 0.9)
        assert at.coverage == sure.mean()
        assert at.accuracy == (drawn.predicted == drawn.targets)[sure].mean()

    def test_a_label_that_nobody_has_has_no_threshold(self):
        drawn = Predictions(np.zeros((2, 2), np.float32), np.array([0, 0]), ("a", "b"))
        assert Thresholds.of(drawn).by_label["b"] is None


class TestSlices:
    """Parts by length and by column."""

    def test_parts_are_scores_of_their_own_rows_and_the_worst_is_named(self):
        drawn = made(300)
        column = np.where(np.arange(300) % 3 == 0, "north", "south")
        logits = drawn.logits.copy()
        logits[column == "north"] = -logits[column == "north"]  # the north is misjudged
        found = slices({"region": list(column)}, lambda values: evaluate_logits(logits, drawn.targets, values))
        region = found["region"]
        north = column == "north"
        (alone,) = (evaluate_logits(logits[north], drawn.targets[north]).overall,)
        assert isinstance(alone, Score)
        assert region.parts["north"] == {
            "examples": 100, "loss": alone.loss, "accuracy": alone.accuracy, "macro_f1": alone.macro_f1
        }  # fmt: skip
        assert (region.worst, region.best) == ("north", "south")
        assert region.gap == region.parts["south"]["accuracy"] - region.parts["north"]["accuracy"] > 0

    def test_buckets_of_length_are_closed_above(self):
        found = length_names(np.array([1, 8, 9, 16, 17, 256, 257, 5000]))
        assert found == ["001-008", "001-008", "009-016", "009-016", "017-032", "129-256", "257-", "257-"]
        assert sorted(set(found)) == list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("logits", "targets"), [(np.zeros((0, 2)), []), (np.zeros((2, 3)), [0, 1]), (np.full((1, 2), np.nan), [0])]
)
def test_what_are_no_predictions(logits, targets):
    with pytest.raises(BadInput, match="predictions"):
        Predictions(logits.astype(np.float32), np.array(targets, np.int64), ("a", "b"))


IRIS = {
    "accuracy": 0.926667, "macro_f1": 0.926601, "weighted_f1": 0.926601, "matthews_correlation": 0.890534,
    "loss": 0.327624, "brier": 0.169436, "auroc": 0.986933,
}  # fmt: skip
BREAST_CANCER = {
    "accuracy": 0.954306, "macro_f1": 0.949885, "weighted_f1": 0.953678, "matthews_correlation": 0.903826,
    "loss": 0.162551, "brier": 0.078223, "auroc": 0.994147,
}  # fmt: skip
