"""Where to draw the line: from which probability to claim a label, and from which confidence to answer at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from common.evaluation.figures import Predictions

__all__ = ["CONFIDENCES", "LabelThreshold", "Selective", "Thresholds"]

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""At which the share of answers and their accuracy are told."""


@dataclass(frozen=True)
class LabelThreshold:
    """The probability of a label from which claiming it has the highest F1; chosen on these very examples."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Selective:
    """What remains where a model answers only from a confidence on."""

    confidence: float
    coverage: float
    """Share of the examples that are answered."""
    accuracy: float | None
    """Of those; None where none is."""


@dataclass(frozen=True)
class Thresholds:
    """Both kinds, from one set of predictions."""

    by_label: Mapping[str, LabelThreshold | None]
    """None for a label that no example has."""
    selective: tuple[Selective, ...]

    @classmethod
    def of(cls, predictions: Predictions) -> Thresholds:
        """Look at every threshold that makes a difference."""
        by_label = {
            name: _best(predictions.targets == label, predictions.probabilities[:, label])
            for label, name in enumerate(predictions.labels)
        }
        confidences = predictions.probabilities.max(axis=1)
        right = predictions.predicted == predictions.targets
        selective = []
        for confidence in CONFIDENCES:
            answered = confidences >= confidence
            accuracy = float(right[answered].mean()) if answered.any() else None
            selective.append(Selective(confidence, float(answered.mean()), accuracy))
        return cls(by_label, tuple(selective))

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return {
            "by_label": {name: found and asdict(found) for name, found in self.by_label.items()},
            "selective": [asdict(each) for each in self.selective],
        }


def _best(true: np.ndarray, probabilities: np.ndarray) -> LabelThreshold | None:
    from sklearn.metrics import precision_recall_curve

    if not true.any():
        return None
    precision, recall, thresholds = precision_recall_curve(true, probabilities)
    precision, recall = precision[:-1], recall[:-1]  # the last point claims nothing and has no threshold
    either = precision + recall
    f1 = np.divide(2 * precision * recall, either, out=np.zeros_like(either), where=either > 0)
    best = int(f1.argmax())
    return LabelThreshold(float(thresholds[best]), float(precision[best]), float(recall[best]), float(f1[best]))
