"""Telling attacked texts from clean ones by a score fixed beforehand, with its ROC curve.

Two scores, neither of which sees the label, the clean text or the gradient:

* **word reaction**: the largest fall of the predicted label's probability when one word is left out (after the
  word-level differential reaction of Mosca et al. 2022). An attacked text hangs on the word that was put in.
* **doubt**: one minus the predicted label's probability, the baseline that any score must beat.

Both are always reported; nothing is fitted, so nothing is tuned on the texts that are scored. Clean are the texts
that the attack started from, attacked those that it turned; a text that withstood is in neither group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

__all__ = ["SCORES", "Detection", "RocPoint", "auroc", "detect", "doubt", "roc", "word_reaction"]

_MOST_WORDS = 40
_BOOTSTRAPS = 500

Predict = Callable[[Sequence[str]], NDArray[np.float64]]


@dataclass(frozen=True)
class RocPoint:
    """Share of clean texts flagged, and of attacked ones, at one threshold."""

    threshold: float
    false_alarms: float
    detected: float


@dataclass(frozen=True)
class Detection:
    """How well one score tells attacked texts from the clean texts that they were made of."""

    score: str
    clean: int
    attacked: int
    auroc: float
    """Chance that an attacked text scores above a clean one, ties counted half."""
    lower: float
    """95 % bootstrap interval, over pairs of a clean text and what became of it."""
    upper: float
    roc: tuple[RocPoint, ...]
    detected_at_5_percent: float
    """Share of attacked texts flagged where at most 5 % of clean ones are."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def doubt(predict: Predict, texts: Sequence[str]) -> NDArray[np.float64]:
    """One minus the probability of the predicted label, ``(texts,)``."""
    return np.asarray(1.0 - predict(texts).max(axis=1))


def word_reaction(predict: Predict, texts: Sequence[str]) -> NDArray[np.float64]:
    """Largest fall of the predicted label's probability when one of 40 words is left out, ``(texts,)``."""
    whole = predict(texts)
    shorter: list[str] = []
    owners: list[int] = []
    for row, text in enumerate(texts):
        words = text.split()
        for place in range(min(len(words), _MOST_WORDS) if len(words) > 1 else 0):
            shorter.append(" ".join(words[:place] + words[place + 1 :]))
            owners.append(row)
    scores = np.zeros(len(texts))
    if shorter:
        rows = np.array(owners)
        answered = whole.argmax(axis=1)[rows]
        falls = whole[rows, answered] - predict(shorter)[np.arange(len(rows)), answered]
        np.maximum.at(scores, rows, falls)
    return scores


SCORES: dict[str, Callable[[Predict, Sequence[str]], NDArray[np.float64]]] = {
    "word reaction": word_reaction,
    "doubt": doubt,
}
"""Every score that is reported, the main one first."""


def auroc(clean: ArrayLike, attacked: ArrayLike) -> float:
    """Area under the ROC curve: Mann-Whitney's U over the number of pairs."""
    low, high = np.asarray(clean, dtype=float), np.asarray(attacked, dtype=float)
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def roc(clean: ArrayLike, attacked: ArrayLike) -> tuple[RocPoint, ...]:
    """The ROC curve: a text is flagged where its score is at least the threshold; from none flagged to all."""
    low, high = np.sort(np.asarray(clean, dtype=float)), np.sort(np.asarray(attacked, dtype=float))
    thresholds = np.unique(np.concatenate([low, high]))[::-1]
    above_low = (len(low) - np.searchsorted(low, thresholds)) / len(low)
    above_high = (len(high) - np.searchsorted(high, thresholds)) / len(high)
    points = [
        RocPoint(float(t), float(f), float(d)) for t, f, d in zip(thresholds, above_low, above_high, strict=True)
    ]
    return (RocPoint(float(thresholds[0]) + 1.0, 0.0, 0.0), *points)


def detect(predict: Predict, clean: Sequence[str], attacked: Sequence[str], seed: int) -> tuple[Detection, ...]:
    """Score pairs of a clean text and what the attack made of it; empty where there is no pair."""
    if not clean:
        return ()
    return tuple(_detection(name, score, predict, (clean, attacked), seed) for name, score in SCORES.items())


def _detection(
    name: str,
    score: Callable[[Predict, Sequence[str]], NDArray[np.float64]],
    predict: Predict,
    pairs: tuple[Sequence[str], Sequence[str]],
    seed: int,
) -> Detection:
    low, high = score(predict, pairs[0]), score(predict, pairs[1])
    chooser = np.random.default_rng(seed)
    drawn = chooser.integers(len(low), size=(_BOOTSTRAPS, len(low)))
    areas = [auroc(low[rows], high[rows]) for rows in drawn]
    curve = roc(low, high)
    return Detection(
        score=name,
        clean=len(low),
        attacked=len(high),
        auroc=auroc(low, high),
        lower=float(np.quantile(areas, 0.025)),
        upper=float(np.quantile(areas, 0.975)),
        roc=curve,
        detected_at_5_percent=max(point.detected for point in curve if point.false_alarms <= 0.05),
    )
