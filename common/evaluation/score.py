"""The figures of merit of a classifier, each a function of its `ScoreCounts`.

The formulas are direct ones over integers, so that every figure is one correctly rounded division
(or an average of such): cheaper than importing scikit-learn, and the tests hold them against it.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from common.errors import BadInput
from common.evaluation.counts import CONFIDENCE_BINS, FIXED_POINT_ONE, ScoreCounts

__all__ = ["ClassScore", "ReliabilityBin", "Score"]

_RELATIVE_TOLERANCE = 1e-9  # between a figure read from a file and the same figure from its counts


@dataclass(frozen=True)
class ClassScore:
    """How well one label is found.  A figure whose denominator is 0 is 0."""

    precision: float
    """Share of the examples predicted as this label that truly have it."""
    recall: float
    """Share of the examples with this label that were predicted as it."""
    f1: float
    """Harmonic mean of precision and recall."""
    support: int
    """Examples that truly have this label."""


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability curve: the examples whose confidence lies in ``(lower, upper]``."""

    lower: float
    upper: float
    examples: int
    confidence: float | None
    """Mean confidence in the bin; None where the bin is empty."""
    accuracy: float | None
    """Share of the bin classified correctly; None where the bin is empty."""


@dataclass(frozen=True)
class Score:
    """What the counts of at least one example say about a classifier.

    Two scores are equal exactly when their counts are; scores of parts merge by merging `counts`.
    """

    counts: ScoreCounts
    """The integers from which every figure follows."""

    def __post_init__(self) -> None:
        """Refuse to score nothing: no mean is defined there."""
        if not self.counts.examples:
            raise BadInput("score: there are no examples to score; give at least 1")

    @property
    def examples(self) -> int:
        """How many examples were scored."""
        return self.counts.examples

    @property
    def loss(self) -> float:
        """Mean log loss (cross entropy) in nats; at least 0, and ln(labels) for a uniform guess."""
        return self.counts.loss_sum / (self.examples * FIXED_POINT_ONE)

    @property
    def accuracy(self) -> float:
        """Share of the examples classified correctly."""
        return self.counts.correct / self.examples

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Examples by ``[true label][predicted label]``."""
        return self.counts.confusion

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """Precision, recall, F1 and support of each label, in the order of the labels."""
        predicted = [sum(column) for column in zip(*self.confusion, strict=True)]
        return tuple(
            _class_score(row[label], predicted[label], sum(row)) for label, row in enumerate(self.confusion)
        )

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of F1 over *all* labels of the task.

        A label that is neither present nor predicted counts 0, so that figures of different parts
        average over the same labels.  scikit-learn says the same when told every label:
        ``f1_score(..., labels=range(labels), average="macro", zero_division=0)``.
        """
        return math.fsum(each.f1 for each in self.classes) / self.counts.labels

    @property
    def matthews_correlation(self) -> float:
        """Correlation of true and predicted label, from -1 to 1; 0 where either never varies.

        For more than two labels this is R_K (Gorodkin 2004, "Comparing two K-category assignments by
        a K-category correlation coefficient"), which for two is Matthews 1975.
        """
        examples = self.examples
        true = [sum(row) for row in self.confusion]
        predicted = [sum(column) for column in zip(*self.confusion, strict=True)]
        covariance = self.counts.correct * examples - sum(t * p for t, p in zip(true, predicted, strict=True))
        true_spread = examples * examples - sum(t * t for t in true)
        predicted_spread = examples * examples - sum(p * p for p in predicted)
        if not true_spread or not predicted_spread:
            return 0.0
        correlation: float = covariance / math.sqrt(true_spread * predicted_spread)
        return max(-1.0, min(1.0, correlation))

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy over the bins, weighted by their examples.

        Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, with 15 equal-width
        bins: sum over bins of (examples in bin / examples) * |accuracy of bin - confidence of bin|.
        """
        pairs = zip(self.counts.bin_correct, self.counts.bin_confidence_sum, strict=True)
        gap = sum(abs(correct * FIXED_POINT_ONE - confidence) for correct, confidence in pairs)
        return gap / (self.examples * FIXED_POINT_ONE)

    @property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """The reliability curve: accuracy against confidence, all 15 bins, the empty ones too."""
        counts = self.counts
        bins = zip(counts.bin_examples, counts.bin_correct, counts.bin_confidence_sum, strict=True)
        return tuple(
            ReliabilityBin(
                lower=which / CONFIDENCE_BINS,
                upper=(which + 1) / CONFIDENCE_BINS,
                examples=examples,
                confidence=confidence / (examples * FIXED_POINT_ONE) if examples else None,
                accuracy=correct / examples if examples else None,
            )
            for which, (examples, correct, confidence) in enumerate(bins)
        )

    def to_json(self) -> dict[str, object]:
        """Return a plain dictionary: every figure for the reader, and the counts that prove them."""
        return {
            "examples": self.examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "matthews_correlation": self.matthews_correlation,
            "expected_calibration_error": self.expected_calibration_error,
            "classes": [asdict(each) for each in self.classes],
            "reliability": [asdict(each) for each in self.reliability],
            "counts": self.counts.to_json(),
        }

    @classmethod
    def from_json(cls, value: object) -> Score:
        """Restore a score from `to_json`'s dictionary.

        The counts are taken and the figures computed anew; `BadInput` names the first stated figure
        that differs from them by more than a relative 1e-9, or is missing or unknown.
        """
        if not isinstance(value, Mapping) or "counts" not in value:
            raise BadInput("score: must be an object with the key counts")
        score = cls(ScoreCounts.from_json(value["counts"]))
        difference = _difference(value, score.to_json(), "score")
        if difference:
            raise BadInput(difference)
        return score


def _class_score(hits: int, predicted: int, support: int) -> ClassScore:
    """Return the figures of a label from its hits, its predictions and its true occurrences."""
    return ClassScore(
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (predicted + support) if predicted + support else 0.0,
        support=support,
    )


def _difference(stated: object, computed: object, where: str) -> str | None:
    """Return the first place where a stated value is not the computed one, as a message, or None."""
    if isinstance(computed, dict):
        if not isinstance(stated, Mapping) or set(stated) != set(computed):
            return f"{where}: must be an object with the keys {', '.join(computed)}"
        differences = (_difference(stated[key], computed[key], f"{where}.{key}") for key in computed)
        return next(filter(None, differences), None)
    if isinstance(computed, list):
        if not isinstance(stated, Sequence) or isinstance(stated, str) or len(stated) != len(computed):
            return f"{where}: must be a list of {len(computed)}"
        differences = (
            _difference(*pair, f"{where}[{index}]")
            for index, pair in enumerate(zip(stated, computed, strict=True))
        )
        return next(filter(None, differences), None)
    return None if _same(stated, computed) else f"{where} = {reprlib.repr(stated)}: the counts give {computed!r}"


def _same(stated: object, computed: object) -> bool:
    """Return whether both are the same number within the tolerance, or both are null."""
    if isinstance(stated, int | float) and isinstance(computed, int | float):
        slack = _RELATIVE_TOLERANCE * abs(computed) if isinstance(computed, float) else 0
        return not isinstance(stated, bool) and computed - slack <= stated <= computed + slack
    return stated is None and computed is None
