"""The ROC is the textbook's, the scores see only what they may, and nothing is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from deploy.robustness.detection import auroc, detect, doubt, roc, word_reaction

SCORES = st.lists(st.integers(0, 6).map(lambda n: n / 6), min_size=1, max_size=20)


@given(SCORES, SCORES)
def test_auroc_is_that_of_scikit_learn_and_the_area_under_the_curve(low: list[float], high: list[float]) -> None:
    wanted = roc_auc_score([0] * len(low) + [1] * len(high), low + high)
    assert auroc(low, high) == pytest.approx(wanted)
    points = roc(low, high)
    area = np.trapezoid([point.detected for point in points], [point.false_alarms for point in points])
    assert area == pytest.approx(wanted)


@given(SCORES, SCORES)
def test_each_point_is_what_its_threshold_flags(low: list[float], high: list[float]) -> None:
    points = roc(low, high)
    assert (points[0].false_alarms, points[0].detected) == (0, 0)
    assert (points[-1].false_alarms, points[-1].detected) == (1, 1)
    for point in points:
        assert point.false_alarms == pytest.approx(np.mean(np.array(low) >= point.threshold))
        assert point.detected == pytest.approx(np.mean(np.array(high) >= point.threshold))


def hanging(texts: Sequence[str]) -> NDArray[np.float64]:
    """Sure of a text with `key`, and of every long text."""
    positive = np.array([0.9 if "key" in text or len(text.split()) > 5 else 0.2 for text in texts])
    return np.stack([1 - positive, positive], axis=1)


def test_the_word_that_an_answer_hangs_on_raises_the_reaction() -> None:
    texts = ["a key b", "one two three four five six seven", "key", ""]
    assert word_reaction(hanging, texts) == pytest.approx([0.7, 0.0, 0.0, 0.0])
    assert doubt(hanging, texts) == pytest.approx([0.1, 0.1, 0.1, 0.2])


def test_attacked_texts_are_told_apart_and_equal_ones_are_not() -> None:
    clean = [f"one two three four five six seven {n}" for n in range(20)]
    attacked = [f"a key {n}" for n in range(20)]
    reaction, baseline = detect(hanging, clean, attacked, seed=0)
    assert (reaction.score, reaction.auroc, reaction.detected_at_5_percent) == ("word reaction", 1.0, 1.0)
    assert baseline.auroc == pytest.approx(0.5)
    same, _ = detect(hanging, clean, clean, seed=0)
    assert same.auroc == pytest.approx(0.5)
    assert same.lower <= same.auroc <= same.upper


def test_without_a_pair_there_is_no_curve() -> None:
    assert detect(hanging, [], [], seed=0) == ()
