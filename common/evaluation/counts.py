"""What scoring counts: integers that add up, so that merging is exact.

A mean of floating-point losses depends on the order in which they were added; a sum of integers does
not.  Each example's loss and confidence is therefore rounded once, to the nearest multiple of
``2**-40`` (an error of at most 4.6e-13), and from there on everything is integer arithmetic without
overflow: `ScoreCounts` under ``+`` is a commutative monoid with `ScoreCounts.zero`.

What is guaranteed: the counts of a whole equal the sum of the counts of its parts, however it was cut
and ordered.  What is not: that two machines compute the same logits for the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from common.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CONFIDENCE_BINS", "FIXED_POINT_ONE", "ScoreCounts"]

CONFIDENCE_BINS = 15
"""Equal-width bins of confidence over (0, 1]; the number that Guo et al. 2017 report with."""

FIXED_POINT_ONE = 2**40
"""The integer that stands for 1.0 in confidence sums and for 1 nat in loss sums."""

_LARGEST_COUNT = 2**100  # a confidence sum over 2**60 examples
_LARGEST_LOSS = 2**1024  # of one example, in fixed point: just above the largest float64
_BINS_OF_CONFIDENCE = ("bin_examples", "bin_correct", "bin_confidence_sum")


@dataclass(frozen=True)
class ScoreCounts:
    """How a classifier did on some examples, as integers that add up.

    Two counts may be added when they are over the same labels.  An instance is always consistent:
    construction refuses counts that no set of examples could have produced (`BadInput`).
    """

    confusion: tuple[tuple[int, ...], ...]
    """Examples by ``[true label][predicted label]``, ``(labels, labels)``."""
    bin_examples: tuple[int, ...]
    """Examples per bin of confidence, ``(15,)``; bin b holds confidences in ``(b/15, (b+1)/15]``."""
    bin_correct: tuple[int, ...]
    """Correctly classified examples per bin of confidence, ``(15,)``."""
    bin_confidence_sum: tuple[int, ...]
    """Sum of the confidences in each bin, ``(15,)``, in units of ``1 / FIXED_POINT_ONE``."""
    loss_sum: int
    """Sum of the log losses, in units of ``1 / FIXED_POINT_ONE`` nats."""

    def __post_init__(self) -> None:
        """Refuse counts that contradict themselves, naming every contradiction."""
        faults = _contradictions(self)
        if faults:
            raise BadInput(f"score counts: {'; '.join(faults)}")

    @property
    def labels(self) -> int:
        """How many labels the classifier chooses among."""
        return len(self.confusion)

    @property
    def examples(self) -> int:
        """How many examples were counted."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """How many examples were classified correctly: the diagonal of the confusion matrix."""
        return sum(row[label] for label, row in enumerate(self.confusion))

    @classmethod
    def zero(cls, labels: int) -> ScoreCounts:
        """Return the counts of no examples at all, the neutral element of ``+``."""
        none = (0,) * CONFIDENCE_BINS
        return cls(((0,) * labels,) * labels, none, none, none, 0)

    @classmethod
    def of(cls, logits: ArrayLike, targets: ArrayLike) -> ScoreCounts:
        """Count ``logits`` ``(examples, labels)`` against the true labels ``targets`` ``(examples,)``.

        The predicted label is the one with the largest logit, the first among equals.  Confidence is
        its softmax probability; the loss is the negative logarithm of the true label's.  Both are
        computed in float64.  For probabilities instead of logits pass their natural logarithm.

        Raises `BadInput` for shapes or labels that do not fit, and `RunFailed` when a row holds NaN,
        an infinity, or logits too far apart for a finite loss: such a model cannot be scored.
        """
        scores, labels = _checked(logits, targets)
        losses, confidences = _fixed_point_losses_and_confidences(scores, labels)
        predicted = scores.argmax(axis=1)
        correct = predicted == labels
        count = scores.shape[1]
        confusion = np.bincount(labels * count + predicted, minlength=count * count)
        # Integer ceiling of confidence * bins, less one: bins are closed above, as in Guo et al. 2017.
        bins = (confidences * CONFIDENCE_BINS + FIXED_POINT_ONE - 1) // FIXED_POINT_ONE - 1
        return cls(
            confusion=tuple(map(tuple, confusion.reshape(count, count).tolist())),
            bin_examples=tuple(np.bincount(bins, minlength=CONFIDENCE_BINS).tolist()),
            bin_correct=tuple(np.bincount(bins[correct], minlength=CONFIDENCE_BINS).tolist()),
            bin_confidence_sum=tuple(sum(confidences[bins == which].tolist()) for which in range(CONFIDENCE_BINS)),
            loss_sum=sum(map(int, losses.tolist())),
        )

    def merge(self, other: ScoreCounts) -> ScoreCounts:
        """Return the counts of both sets of examples together; exact, associative, commutative."""
        if self.labels != other.labels:
            raise BadInput(
                f"score counts over {self.labels} and over {other.labels} labels: only counts over the "
                "same labels can be merged"
            )
        return ScoreCounts(
            confusion=tuple(map(_added, self.confusion, other.confusion)),
            bin_examples=_added(self.bin_examples, other.bin_examples),
            bin_correct=_added(self.bin_correct, other.bin_correct),
            bin_confidence_sum=_added(self.bin_confidence_sum, other.bin_confidence_sum),
            loss_sum=self.loss_sum + other.loss_sum,
        )

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        """Return `merge` of both, so that ``sum(parts, ScoreCounts.zero(labels))`` works."""
        return self.merge(other)

    def to_json(self) -> dict[str, object]:
        """Return a plain dictionary of lists and integers, from which `from_json` restores exactly."""
        return {
            "confusion": [list(row) for row in self.confusion],
            **{name: list(getattr(self, name)) for name in _BINS_OF_CONFIDENCE},
            "loss_sum": self.loss_sum,
        }

    @classmethod
    def from_json(cls, value: object) -> ScoreCounts:
        """Restore counts from `to_json`'s dictionary; `BadInput` for anything else."""
        expected = {"confusion", *_BINS_OF_CONFIDENCE, "loss_sum"}
        if not isinstance(value, Mapping) or set(value) != expected:
            raise BadInput(f"score counts: must be an object with the keys {', '.join(sorted(expected))}")
        rows = value["confusion"]
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise BadInput("score counts: confusion: must be a list of rows")
        bins = {name: _integers(value[name], name) for name in _BINS_OF_CONFIDENCE}
        (loss_sum,) = _integers([value["loss_sum"]], "loss_sum")
        return cls(
            confusion=tuple(_integers(row, "confusion") for row in rows),
            bin_examples=bins["bin_examples"],
            bin_correct=bins["bin_correct"],
            bin_confidence_sum=bins["bin_confidence_sum"],
            loss_sum=loss_sum,
        )


def _contradictions(counts: ScoreCounts) -> list[str]:
    """Return every reason why no set of examples has these counts."""
    labels = counts.labels
    if labels < 2 or any(len(row) != labels for row in counts.confusion):
        return ["confusion: must be a square matrix over at least 2 labels"]
    bins = (counts.bin_examples, counts.bin_correct, counts.bin_confidence_sum)
    if any(len(values) != CONFIDENCE_BINS for values in bins):
        return [f"every list of bins must have {CONFIDENCE_BINS} numbers"]
    numbers = [*chain(*counts.confusion), *chain(*bins)]
    if min(numbers) < 0 or counts.loss_sum < 0:
        return ["no count or sum may be negative"]
    if max(numbers) > _LARGEST_COUNT or counts.loss_sum > counts.examples * _LARGEST_LOSS:
        return ["a count or sum is larger than any that scoring produces"]
    faults = []
    if sum(counts.bin_examples) != counts.examples:
        faults.append(f"bin_examples: add up to {sum(counts.bin_examples)}, not to {counts.examples}")
    if sum(counts.bin_correct) != counts.correct:
        faults.append(f"bin_correct: add up to {sum(counts.bin_correct)}, not to {counts.correct}")
    for which, (examples, correct, confidence) in enumerate(zip(*bins, strict=True)):
        if correct > examples:
            faults.append(f"bin_correct[{which}] = {correct}: more than its {examples} examples")
        width = examples * FIXED_POINT_ONE  # of the bin, times CONFIDENCE_BINS
        if not which * width <= confidence * CONFIDENCE_BINS <= (which + 1) * width:
            faults.append(f"bin_confidence_sum[{which}]: outside the bounds of its bin")
    return faults


def _checked(logits: ArrayLike, targets: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return both as arrays that fit together: float64 in C order, and labels within range."""
    scores = np.array(logits, dtype=np.float64, order="C")
    labels = np.asarray(targets)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise BadInput(f"logits of shape {scores.shape}: must be (examples, labels) with at least 2 labels")
    if labels.shape != scores.shape[:1]:
        raise BadInput(f"targets of shape {labels.shape}: must be ({scores.shape[0]},), one for each row")
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(f"targets of type {labels.dtype}: must be integers, the indexes of labels")
    outside = np.flatnonzero((labels < 0) | (labels >= scores.shape[1]))
    if outside.size:
        row = int(outside[0])
        raise BadInput(
            f"targets[{row}] = {labels[row]}: must be from 0 to {scores.shape[1] - 1} "
            f"({outside.size} of {labels.size} are not)"
        )
    return scores, labels.astype(np.int64)


def _fixed_point_losses_and_confidences(
    logits: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each row's log loss and confidence times `FIXED_POINT_ONE`, rounded to whole numbers.

    Losses stay float64 (whole numbers, possibly beyond int64).  A row's result depends on that row
    alone: rows are contiguous and the sum over labels runs from left to right.
    """
    with np.errstate(all="ignore"):  # what is not finite is found and refused below
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).cumsum(axis=1)[:, -1]
        losses = np.rint((np.log(total) - shifted[np.arange(len(targets)), targets]) * FIXED_POINT_ONE)
    unusable = int((~(np.isfinite(logits).all(axis=1) & np.isfinite(losses))).sum())
    if unusable:
        raise RunFailed(
            f"model output: {unusable} of {len(targets)} rows have non-finite logits (NaN, infinite or "
            "overflowing): the model cannot be scored; try a smaller learning rate"
        )
    # The largest shifted logit is 0, so the largest probability is exp(0) / total.
    return losses, np.rint(FIXED_POINT_ONE / total).astype(np.int64)


def _added(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Return the sums of two equally long rows of integers."""
    return tuple(one + other for one, other in zip(left, right, strict=True))


def _integers(value: object, name: str) -> tuple[int, ...]:
    """Return a JSON list of integers as a tuple; neither true nor 1.0 is an integer."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadInput(f"score counts: {name}: must be a list of integers")
    if any(type(item) is not int for item in value):
        raise BadInput(f"score counts: {name}: must hold integers only")
    return tuple(value)
