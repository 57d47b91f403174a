"""How far figures would move if other texts had been drawn: percentile bootstrap intervals.

Whole texts are drawn with replacement, as many as there are, so that the words of a text stay together (Efron and
Tibshirani 1993, chapter 13). The same seed gives the same intervals. Nothing here is private: for public sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput
from common.evaluation.entities import EntityScore
from common.evaluation.figures import Predictions

__all__ = ["LEVEL", "RESAMPLES", "Interval", "entity_interval", "intervals"]

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """Between which values a share `LEVEL` of the resamples lies."""

    low: float
    high: float


def intervals(predictions: Predictions, seed: int, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Intervals of accuracy, macro F1, MCC, loss and Brier score, by the names that `Score` and `Figures` use."""
    targets, labels = predictions.targets, len(predictions.labels)
    cells = targets * labels + predictions.predicted
    probabilities = predictions.probabilities
    rows = np.arange(len(targets))
    with np.errstate(divide="ignore"):
        losses = -np.log(np.maximum(probabilities[rows, targets], np.finfo(np.float64).tiny))
    brier = ((probabilities - np.eye(labels)[targets]) ** 2).sum(axis=1)

    def figures(times: NDArray[np.int64]) -> list[float]:
        counted = np.bincount(cells, weights=times, minlength=labels**2)
        confusion = counted.astype(np.float64).reshape(labels, labels)
        total = confusion.sum()
        return [*_of_confusion(confusion), float(times @ losses / total), float(times @ brier / total)]

    clusters = predictions.clusters
    whose = rows if clusters is None else np.unique(clusters, return_inverse=True)[1]
    found = _resampled(int(whose.max()) + 1, resamples, seed, lambda times: figures(times[whose]))
    names = ("accuracy", "macro_f1", "matthews_correlation", "loss", "brier")
    return {name: _interval(column) for name, column in zip(names, found.T, strict=True)}


def entity_interval(texts: Sequence[EntityScore], seed: int, resamples: int = RESAMPLES) -> Interval:
    """The interval of the entities' F1 over all types; ``texts`` are the scores of single texts."""
    if not texts:
        raise BadInput("bootstrap: there are no texts")
    counts = np.array([[sum(text.found), sum(text.predicted) + sum(text.true)] for text in texts])

    def f1(times: NDArray[np.int64]) -> list[float]:
        found, both = times @ counts
        return [2 * float(found) / float(both) if both else 0.0]

    return _interval(_resampled(len(texts), resamples, seed, f1)[:, 0])


def _resampled(
    texts: int, resamples: int, seed: int, figures: Callable[[NDArray[np.int64]], list[float]]
) -> NDArray[np.float64]:
    """``figures`` of each resample, given how often each text was drawn: ``(resamples, figures)``."""
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = (np.bincount(generator.integers(texts, size=texts), minlength=texts) for _ in range(resamples))
    return np.array([figures(times) for times in drawn])


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _of_confusion(confusion: NDArray[np.float64]) -> tuple[float, float, float]:
    """Accuracy, macro F1 over all labels, and MCC; as `Score` defines them."""
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    total = confusion.sum()
    either = true + predicted
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    spread = (total**2 - true @ true) * (total**2 - predicted @ predicted)
    covariance = hits.sum() * total - true @ predicted
    correlation = covariance / np.sqrt(spread) if spread > 0 else 0.0
    return float(hits.sum() / total), float(f1.mean()), float(correlation)
