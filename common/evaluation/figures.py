"""Figures of merit that need each prediction, beside those of `Score` that need counts alone.

scikit-learn does the arithmetic; it is imported when a figure is computed, not before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from common.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Figures", "Predictions"]


@dataclass(frozen=True)
class Predictions:
    """What a model said of examples whose labels are known."""

    logits: NDArray[np.float32]
    """``(examples, labels)``."""
    targets: NDArray[np.int64]
    """``(examples,)``."""
    labels: tuple[str, ...]
    """Names, in the order of the logits."""
    clusters: NDArray[np.int64] | None = field(default=None, repr=False)
    """Text that each example comes from, where examples are words, ``(examples,)``; None: each is its own."""

    def __post_init__(self) -> None:
        shape = (len(self.targets), len(self.labels))
        if self.logits.shape != shape or not len(self.targets):
            raise BadInput(
                f"predictions: logits of shape {self.logits.shape}: must be {shape}, for 1 example or more"
            )
        if not np.isfinite(self.logits).all():
            raise BadInput("predictions: non-finite logits; such a model cannot be scored")

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits in float64, ``(examples, labels)``."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Label with the largest logit, the first among equals, ``(examples,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Figures:
    """One model on one set of examples; a figure by label is None where all examples have it, or none has."""

    micro_f1: float
    """F1 over all decisions; the accuracy, where each example has one label."""
    weighted_f1: float
    """Mean of F1 over the labels, weighted by their examples."""
    balanced_accuracy: float
    """Mean of recall over the labels that are there."""
    brier: float
    """Mean over the examples of ``sum_k (p_k - y_k)^2`` over all labels, from 0 to 2 (Brier 1950)."""
    auroc: float | None
    """Unweighted mean of `auroc_by_label` where that is known."""
    average_precision: float | None
    """Unweighted mean of `average_precision_by_label` where that is known."""
    auroc_by_label: Mapping[str, float | None]
    """Area under the ROC curve of the label's probability against all others."""
    average_precision_by_label: Mapping[str, float | None]
    """Area under the precision-recall curve, as scikit-learn's step function has it."""

    @classmethod
    def of(cls, predictions: Predictions) -> Figures:
        """Compute all figures from the same predictions."""
        from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

        targets, predicted = predictions.targets, predictions.predicted
        probabilities, every = predictions.probabilities, range(len(predictions.labels))
        auroc: dict[str, float | None] = {}
        average: dict[str, float | None] = {}
        for label, name in enumerate(predictions.labels):
            true = targets == label
            known = bool(true.any()) and not bool(true.all())
            auroc[name] = float(roc_auc_score(true, probabilities[:, label])) if known else None
            average[name] = float(average_precision_score(true, probabilities[:, label])) if known else None
        there = np.unique(targets)
        recalls = recall_score(targets, predicted, labels=there, average=None, zero_division=0)
        wrong = probabilities - np.eye(len(predictions.labels))[targets]
        return cls(
            micro_f1=float(f1_score(targets, predicted, average="micro", labels=every, zero_division=0)),
            weighted_f1=float(f1_score(targets, predicted, average="weighted", labels=every, zero_division=0)),
            balanced_accuracy=float(np.mean(recalls)),
            brier=float((wrong**2).sum(axis=1).mean()),
            auroc=_mean(auroc),
            average_precision=_mean(average),
            auroc_by_label=auroc,
            average_precision_by_label=average,
        )

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return asdict(self)


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return math.fsum(known) / len(known) if known else None
