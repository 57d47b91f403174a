"""Imitations say how faithful they are, and mean it."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.explain.surrogate import surrogates
from tests.tiny import tiny_rows

ROWS = tiny_rows(200, seed=41)
TEXTS = [row[0] for row in ROWS]
LABELS = ["negative", "positive"]


def test_answers_that_hang_on_words_are_imitated_and_told() -> None:
    answers = np.array([int(row[1] == "positive") for row in ROWS])
    linear, tree = surrogates(TEXTS, answers, LABELS, seed=0)
    assert linear.fidelity > 0.95 > tree.fidelity > tree.commonest
    assert linear.held_out == linear.trained_on == 100
    positive = next(line for line in linear.rules.splitlines() if line.startswith("positive"))
    assert {word.split()[0] for word in positive.removeprefix("positive: ").split(", ")} >= {"good", "great"}
    assert "-> positive" in tree.rules


def test_answers_without_a_rule_are_not_imitated_better_than_by_chance() -> None:
    """False alarm: 100 held-out coin flips; 0.7 is four standard deviations, about 3e-5."""
    answers = np.random.default_rng(0).integers(2, size=len(TEXTS))
    assert all(each.fidelity < 0.7 for each in surrogates(TEXTS, answers, LABELS, seed=0))


def test_the_split_is_the_seeds() -> None:
    answers = np.array([int(row[1] == "positive") for row in ROWS])
    assert surrogates(TEXTS, answers, LABELS, seed=1) == surrogates(TEXTS, answers, LABELS, seed=1)


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_too_few_texts_give_none(rows: int) -> None:
    assert surrogates(TEXTS[:rows], np.arange(rows) % 2, LABELS, seed=0) == ()


def test_a_single_answer_gives_none() -> None:
    assert surrogates(TEXTS, np.zeros(len(TEXTS), np.int64), LABELS, seed=0) == ()


def test_three_labels_each_have_their_words() -> None:
    texts = [f"{word} thing {n % 3}" for n in range(60) for word in ("red", "green", "blue")]
    answers = np.array([("red", "green", "blue").index(text.split()[0]) for text in texts])
    linear, _ = surrogates(texts, answers, ["a", "b", "c"], seed=0)
    assert linear.fidelity == 1.0
    firsts = [line.split(": ")[1].split()[0] for line in linear.rules.splitlines()]
    assert firsts == ["red", "green", "blue"]
