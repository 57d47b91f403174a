"""The whole is the sum of its domains, and the worst domain is named by a fixed rule."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput, HanseError, RunFailed
from common.evaluation import Evaluation, Score, ScoreCounts, evaluate_logits
from tests.common.evaluation.strategies import WILD_LOGITS, predictions

RIGHT, WRONG = [4.0, 0.0], [0.0, 4.0]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def evaluation_of(answers):
    """Evaluate answers ``{domain: [row of logits, ...]}`` where label 0 is always the true one."""
    rows = [(row, domain) for domain, some in answers.items() for row in some]
    return evaluate_logits([row for row, _ in rows], [0] * len(rows), [domain for _, domain in rows])


@st.composite
def evaluations(draw):
    logits, targets = draw(predictions(values=WILD_LOGITS))
    some = draw(st.lists(st.sampled_from(["film", "tweets", "ü"]), min_size=len(targets), max_size=len(targets)))
    return evaluate_logits(logits, targets, draw(st.sampled_from([None, some])))


class TestEvaluateLogits:
    """Scoring the whole and its domains."""

    @settings(deadline=None)
    @given(predictions(), st.data())
    def test_the_domains_add_up_to_the_whole(self, drawn, data):
        logits, targets = drawn
        names = st.sampled_from(["film", "product", "tweets"])
        domains = data.draw(st.lists(names, min_size=len(targets), max_size=len(targets)))
        evaluation = evaluate_logits(logits, targets, domains)
        parts = [score.counts for score in evaluation.by_domain.values()]
        assert sum(parts, ScoreCounts.zero(logits.shape[1])) == evaluation.overall.counts
        assert set(evaluation.by_domain) == set(domains)
        for name, score in evaluation.by_domain.items():
            rows = [row for row, domain in enumerate(domains) if domain == name]
            assert score == Score(ScoreCounts.of(logits[rows], targets[rows]))

    def test_without_domains_there_is_no_worst(self):
        evaluation = evaluate_logits([RIGHT, WRONG], [0, 0])
        assert evaluation.overall.accuracy == 0.5
        assert evaluation.by_domain == {}
        assert evaluation.worst_domain is None

    def test_domains_stand_sorted_by_name(self):
        assert list(evaluation_of({"b": [RIGHT], "a": [RIGHT]}).by_domain) == ["a", "b"]

    def test_numpy_strings_are_domains_too(self):
        evaluation = evaluate_logits([RIGHT, WRONG], [0, 0], np.array(["a", "b"]))
        assert json.dumps(evaluation.to_json())
        assert evaluation.worst_domain == "b"

    def test_one_domain_for_each_example(self):
        with pytest.raises(BadInput, match="1 domains for 2 examples"):
            evaluate_logits([RIGHT, WRONG], [0, 0], ["film"])

    def test_no_examples(self):
        with pytest.raises(BadInput, match="no examples to score"):
            evaluate_logits(np.empty((0, 2)), [], [])

    def test_non_finite_rows_are_counted_over_all_domains(self):
        with pytest.raises(RunFailed, match="2 of 3 rows"):
            evaluate_logits([[np.nan, 0], [0, np.nan], RIGHT], [0, 0, 0], ["a", "b", "b"])


class TestWorstDomain:
    """Which domain is named the worst."""

    def test_is_the_least_accurate(self):
        answers = {"film": [RIGHT, RIGHT], "tweets": [RIGHT, WRONG], "product": [RIGHT, RIGHT, WRONG]}
        assert evaluation_of(answers).worst_domain == "tweets"

    def test_among_equals_has_the_higher_loss(self):
        assert evaluation_of({"a": [WRONG], "b": [[0.0, 9.0]], "c": [WRONG]}).worst_domain == "b"

    def test_among_full_equals_comes_first_by_name(self):
        assert evaluation_of({"b": [WRONG], "a": [WRONG]}).worst_domain == "a"


class TestJson:
    """An evaluation as plain data, and back."""

    @settings(deadline=None)
    @given(evaluations())
    def test_round_trip_is_exact(self, evaluation):
        written = json.dumps(evaluation.to_json(), allow_nan=False)
        restored = Evaluation.from_json(json.loads(written))
        assert restored == evaluation
        assert json.dumps(restored.to_json()) == written

    def test_keys_are_stable(self):
        assert list(evaluation_of({"a": [RIGHT]}).to_json()) == ["overall", "by_domain", "worst_domain"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"extra": 1}, "must be an object with the keys overall, by_domain and worst_domain"),
            ({"by_domain": []}, "must be an object with the keys"),
            ({"worst_domain": "film"}, "worst_domain = 'film': the scores give 'tweets'"),
            ({"overall": {}}, "evaluation: overall: score: must be an object"),
            ({"by_domain": {"film": 3}}, r"evaluation: by_domain\['film'\]: score: must be an object"),
        ],
    )
    def test_what_does_not_hold_together_is_refused(self, changes, message):
        value = evaluation_of({"film": [RIGHT], "tweets": [WRONG]}).to_json()
        with pytest.raises(BadInput, match=message):
            Evaluation.from_json({**value, **changes})

    @settings(deadline=None)
    @given(st.data())
    def test_a_damaged_file_never_ends_in_a_traceback(self, data):
        """Replace one value anywhere in a file: it is refused in one line, or it changed nothing."""
        evaluation = evaluation_of({"film": [RIGHT], "tweets": [WRONG, RIGHT]})
        value = json.loads(json.dumps(evaluation.to_json()))
        place, key = value, data.draw(st.sampled_from(sorted(value)))
        while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        place[key] = data.draw(JSON_VALUES)
        try:
            restored = Evaluation.from_json(value)
        except HanseError as error:
            outcome = str(error)
        else:
            outcome = json.dumps(restored.to_json())
        assert outcome
        assert "\n" not in outcome


def test_importing_the_package_imports_neither_torch_nor_scikit_learn():
    program = (
        "import sys, common.evaluation as e; e.evaluate_logits([[1.0, 0.0]], [0]).to_json(); "
        "sys.exit(bool({'torch', 'sklearn', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
