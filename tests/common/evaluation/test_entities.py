"""Entities agree with seqeval, add up, and count words that the model never saw as missed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

from common.errors import BadInput, RunFailed
from common.evaluation.entities import EntityScore
from common.evaluation.evaluate import Evaluation, evaluate_tags
from common.evaluation.masked import MaskedScore
from common.evaluation.report import TaggedTexts, report_on_tags

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

sentences = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8), min_size=1, max_size=8
)


def named(tags):
    return [[LABELS[tag] for tag in row] for row in tags]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=80)
@given(sentences)
def test_they_are_seqevals(drawn):
    true, said = [[t for t, _ in row] for row in drawn], [[s for _, s in row] for row in drawn]
    found = EntityScore.of(LABELS, true, said)
    pair = named(true), named(said)
    assert found.overall.precision == pytest.approx(precision_score(*pair))
    assert found.overall.recall == pytest.approx(recall_score(*pair))
    assert found.overall.f1 == pytest.approx(f1_score(*pair))
    report = classification_report(*pair, output_dict=True, zero_division=0)
    for kind, score in found.by_type.items():
        expected = report.get(kind, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )


@settings(max_examples=60)
@given(sentences, st.integers(0, 8))
def test_parts_add_up_and_survive_json(drawn, cut):
    true, said = [[t for t, _ in row] for row in drawn], [[s for _, s in row] for row in drawn]
    whole = EntityScore.of(LABELS, true, said)
    parts = [EntityScore.of(LABELS, true[rows], said[rows]) for rows in (slice(cut), slice(cut, None))]
    assert parts[0].merge(parts[1]) == whole
    assert EntityScore.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_the_published_example_of_seqeval():
    """README of seqeval 1.2.2: entity F1 0.50, accuracy 0.80, MISC never found, PER always."""
    labels = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER")
    true = [[0, 0, 0, 1, 2, 2, 0], [3, 4, 0]]
    said = [[0, 0, 1, 2, 2, 2, 0], [3, 4, 0]]
    logits = np.eye(5, dtype=np.float32)[[tag for row in said for tag in row]]
    words = [list(range(7)), list(range(3))]
    found = report_on_tags(labels, logits, TaggedTexts(true, words), {"place": ["a", "b"]}).to_json()
    assert found["entities"]["f1"] == 0.5
    assert found["overall"]["accuracy"] == 0.8
    assert {kind: each["f1"] for kind, each in found["entities"]["types"].items()} == {"MISC": 0.0, "PER": 1.0}
    assert (found["slices"]["place"]["worst"], found["slices"]["place"]["gap"]) == ("a", 1.0)
    assert found["intervals"]["entity_f1"] == {"low": 0.0, "high": 1.0}


class TestTags:
    """From logits of words to an evaluation."""

    TRUE = ((0, 1, 2), (3,), (0, 1))
    LOGITS = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 0]]

    def test_a_word_that_was_cut_off_is_a_missed_entity(self):
        found = evaluate_tags(LABELS, self.LOGITS, self.TRUE, [[0, 1, 2], [0], [0]])
        assert found.entities is not None
        assert (found.entities.found, found.entities.true) == ((1, 1), (1, 2))
        assert found.overall.examples == 5
        assert found.headline == found.entities.overall.f1 == pytest.approx(4 / 5)

    def test_domains_are_those_of_sentences(self):
        found = evaluate_tags(LABELS, self.LOGITS, self.TRUE, [[0, 1, 2], [0], [0]], ["x", "x", "y"])
        assert {name: score.examples for name, score in found.by_domain.items()} == {"x": 4, "y": 1}
        assert found.entities_by_domain["x"].overall.f1 == 1.0
        assert found.worst_domain == "y"
        assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    "value",
    [None, {}, {"counts": {"PER": [1, 2]}}, {"counts": {"PER": [2, 1, 2]}}, {"counts": {"PER": [1, 1, 1.0]}}],
)
def test_what_is_no_entity_score(value):
    with pytest.raises(BadInput, match="entities"):
        EntityScore.from_json(value)


class TestMasked:
    """Guesses of hidden tokens."""

    @given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=2, max_size=20), st.integers(1, 19))
    def test_parts_add_up_to_the_last_bit(self, rows, cut):
        losses, right = np.array([loss for loss, _ in rows]), np.array([hit for _, hit in rows])
        cut = min(cut, len(rows) - 1)
        parts = [MaskedScore.of(losses[part], right[part]) for part in (slice(cut), slice(cut, None))]
        whole = MaskedScore.of(losses, right)
        assert parts[0] + parts[1] == whole
        assert whole.loss == pytest.approx(losses.mean(), abs=1e-9)
        assert whole.accuracy == right.mean()
        found = Evaluation(whole, {"x": parts[0], "y": parts[1]})
        assert found.headline == whole.likelihood == pytest.approx(np.exp(-losses.mean()))
        assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found

    def test_a_model_that_answers_nan_is_not_scored(self):
        with pytest.raises(RunFailed, match="non-finite"):
            MaskedScore.of(np.array([np.nan]), np.array([True]))
