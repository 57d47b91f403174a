"""Simple models that imitate the classifier, and how faithfully.

A logistic regression on the words of a text and a small decision tree learn the classifier's *answers*, not the
true labels. Fidelity is the share of held-out texts on which they answer alike; beside it stands what always
giving the commonest answer would reach. A surrogate of low fidelity explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput

__all__ = ["FEWEST_TEXTS", "Surrogate", "surrogates"]

FEWEST_TEXTS = 20
"""With fewer there is nothing to hold out."""

_TREE_DEPTH = 3
_WORDS_SHOWN = 10


@dataclass(frozen=True)
class Surrogate:
    """One imitation."""

    name: str
    fidelity: float
    """Share of held-out texts answered as the classifier answers."""
    commonest: float
    """Share of held-out texts whose answer is the commonest one."""
    trained_on: int
    held_out: int
    rules: str
    """The model in words: the heaviest words, or the tree."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def surrogates(
    texts: Sequence[str], answers: NDArray[np.int64], labels: Sequence[str], seed: int
) -> tuple[Surrogate, ...]:
    """Fit both imitations on half of the texts and hold them against the other half.

    Empty where there are fewer than 20 texts, or where one half has a single answer.

    Raises:
        BadInput: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise BadInput("scikit-learn: not installed; run: pip install 'hanse[explain]'") from error
    order = np.random.default_rng(seed).permutation(len(texts))
    fit, held = order[: len(order) // 2], order[len(order) // 2 :]
    if len(texts) < FEWEST_TEXTS or len(set(answers[fit])) < 2:
        return ()
    vectorizer = CountVectorizer(binary=True, min_df=2, max_features=5000, token_pattern=r"(?u)\b\w+\b")
    try:
        learned = vectorizer.fit_transform([texts[row] for row in fit])
    except ValueError:  # no word stands in two texts
        return ()
    tested = vectorizer.transform([texts[row] for row in held])
    words = vectorizer.get_feature_names_out()
    values, counts = np.unique(answers[fit], return_counts=True)
    commonest = float((answers[held] == values[counts.argmax()]).mean())

    def judged(name: str, fitted: Any, rules: str) -> Surrogate:
        same = float((fitted.predict(tested) == answers[held]).mean())
        return Surrogate(name, same, commonest, len(fit), len(held), rules)

    linear = LogisticRegression(C=1.0, max_iter=1000).fit(learned, answers[fit])
    tree = DecisionTreeClassifier(max_depth=_TREE_DEPTH, random_state=seed).fit(learned, answers[fit])
    return (
        judged("bag of words, logistic regression", linear, _heaviest(linear, words, labels)),
        judged(f"decision tree, depth {_TREE_DEPTH}", tree, _tree_in_words(tree, words, labels)),
    )


def _heaviest(linear: Any, words: NDArray[Any], labels: Sequence[str]) -> str:
    lines = []
    weights = linear.coef_
    if len(linear.classes_) == 2:
        weights = np.concatenate([-weights, weights])
    for label, row in zip(linear.classes_, weights, strict=True):
        best = np.argsort(-row, kind="stable")[:_WORDS_SHOWN]
        lines.append(f"{labels[label]}: " + ", ".join(f"{words[i]} {row[i]:+.2f}" for i in best if row[i] > 0))
    return "\n".join(lines)


def _tree_in_words(tree: Any, words: NDArray[Any], labels: Sequence[str]) -> str:
    inside = tree.tree_

    def told(node: int, depth: int) -> list[str]:
        if inside.children_left[node] < 0:
            answer = tree.classes_[int(inside.value[node][0].argmax())]
            return [f"{'  ' * depth}-> {labels[answer]}"]
        word = words[inside.feature[node]]
        return [
            f"{'  ' * depth}with {word}",
            *told(int(inside.children_right[node]), depth + 1),
            f"{'  ' * depth}without {word}",
            *told(int(inside.children_left[node]), depth + 1),
        ]

    return "\n".join(told(0, 0))
