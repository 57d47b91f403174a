"""Scores, size and speed of two forms of a model on the same texts, and how far they agree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.evaluation import Score, ScoreCounts
from common.text import Batch, TokenizedTexts, batches
from deploy.export.runners import Runner

__all__ = ["Agreement", "Figures", "Speed", "agreement", "figures", "logits_of", "speeds"]

_BATCH = 32
_TEXTS_TIMED = 64
_REPEATS = 5


@dataclass(frozen=True)
class Speed:
    """How fast a form answers."""

    milliseconds_per_text: float
    """Median, one text at a time."""
    texts_per_second: float
    """In batches of 32, texts of similar length together; the best of five runs."""


@dataclass(frozen=True)
class Figures:
    """One form of a model."""

    bytes: int
    """Of its weights on disk."""
    accuracy: float
    macro_f1: float
    loss: float
    expected_calibration_error: float
    speed: Speed

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """How far two forms say the same of the same texts."""

    texts: int
    same_label: float
    """Share of texts with the same answer."""
    largest_logit_difference: float
    mean_probability_difference: float
    """Mean over texts of the largest difference in a label's probability."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def logits_of(runner: Runner, texts: TokenizedTexts) -> NDArray[np.float32]:
    """Logits ``(texts, labels)``, in the order of the texts."""
    found: list[NDArray[np.float32]] = []
    rows: list[NDArray[np.int64]] = []
    for batch in batches(texts, np.arange(len(texts)), _BATCH):
        found.append(_run(runner, batch))
        rows.append(batch.indexes)
    return np.concatenate(found)[np.argsort(np.concatenate(rows), kind="stable")]


def figures(logits: NDArray[np.float32], labels: Sequence[int], size: int, speed: Speed) -> Figures:
    """Put the figures of one form together."""
    score = Score(ScoreCounts.of(logits, labels))
    return Figures(size, score.accuracy, score.macro_f1, score.loss, score.expected_calibration_error, speed)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> Agreement:
    """Hold the logits of two forms against one another."""
    apart = np.abs(_softmax(one) - _softmax(other)).max(axis=1)
    return Agreement(
        texts=len(one),
        same_label=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        largest_logit_difference=float(np.abs(one.astype(np.float64) - other).max()),
        mean_probability_difference=float(apart.mean()),
    )


def speeds(runners: Sequence[Runner], texts: TokenizedTexts) -> list[Speed]:
    """Time all forms in turn on the first texts, so that what else runs here slows them alike."""
    timed = np.arange(min(_TEXTS_TIMED, len(texts)))
    single = [batch for row in timed for batch in batches(texts, np.array([row]), 1)]
    grouped = list(batches(texts, timed, _BATCH))
    for runner in runners:  # first calls compile and allocate
        for batch in grouped:
            _run(runner, batch)
    alone: list[list[float]] = [[] for _ in runners]
    together: list[list[float]] = [[] for _ in runners]
    for _ in range(_REPEATS):
        for which, runner in enumerate(runners):
            alone[which] += [_seconds(runner, [batch]) for batch in single]
            together[which].append(_seconds(runner, grouped))
    return [
        Speed(1000 * float(np.median(ones)), len(timed) / min(whole))
        for ones, whole in zip(alone, together, strict=True)
    ]


def _seconds(runner: Runner, given: Sequence[Batch]) -> float:
    started = time.perf_counter()
    for batch in given:
        _run(runner, batch)
    return time.perf_counter() - started


def _run(runner: Runner, batch: Batch) -> NDArray[np.float32]:
    return runner(batch.inputs["input_ids"].numpy(), batch.inputs["attention_mask"].numpy())


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
