"""A site's validation set as one noisy histogram: counts by slice x label x prediction x confidence bin (P16).

A unit adds at most 1 to the histogram in Euclidean norm: an example one count in one cell; a person, under unit
"group", one count shared evenly among its rows. Units are not sampled, so a release is a Gaussian mechanism of
sensitivity 1, whose noise has the standard deviation `ReleasePlan.noise_multiplier` in every cell. Everything that
is said of the site's validation set is computed from what was released, which costs nothing more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.errors import BadInput
from common.evaluation.counts import CONFIDENCE_BINS
from common.evaluation.figures import Predictions
from common.privacy.mechanism import Gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from common.privacy.randomness import NoiseSource

__all__ = ["ReleasePlan", "ReleasedCounts", "release", "unit_histogram"]

_ROUNDING_MARGIN = 2.0**-40  # a person's shares add up to less than 1 by this, more than their float64 rounding


@dataclass(frozen=True)
class ReleasePlan:
    """What is released, fixed before anything is looked at."""

    labels: tuple[str, ...]
    slices: tuple[str, ...]
    """Names of the parts into which the examples fall; one for a release without parts."""
    noise_multiplier: float
    """Standard deviation of the noise in each cell, over the sensitivity of 1; greater than 0."""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or not self.slices:
            raise BadInput("evaluation release: needs at least 2 labels and 1 slice")
        if not self.noise_multiplier > 0:
            raise BadInput(
                f"evaluation release: noise_multiplier = {self.noise_multiplier}: must be greater than 0"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, true labels, predicted labels, bins of confidence."""
        return (len(self.slices), len(self.labels), len(self.labels), CONFIDENCE_BINS)

    @property
    def mechanism(self) -> Gaussian:
        """What one release costs."""
        return Gaussian(self.noise_multiplier, 1)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) that names the plan."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ReleasedCounts:
    """A noisy histogram and what follows from it; each figure is only as sure as the noise lets it be."""

    plan: ReleasePlan
    counts: NDArray[np.float64]
    """In the plan's shape; noisy, so neither whole nor always positive."""

    def units(self, part: str | None = None) -> float:
        """How many units there seem to be, in one slice or all."""
        return float(self._of(part).sum())

    def accuracy(self, part: str | None = None) -> float | None:
        """Share of the units classified correctly, cut to [0, 1]; None where too few seem to be there."""
        counts = self._of(part)
        total = counts.sum()
        if total <= self.uncertainty(part):
            return None
        return float(np.clip(np.einsum("iib->", counts) / total, 0.0, 1.0))

    def macro_f1(self, part: str | None = None) -> float | None:
        """Mean of F1 over all labels, from counts cut at 0; None where :meth:`accuracy` is."""
        if self.accuracy(part) is None:
            return None
        confusion = np.maximum(self._of(part).sum(axis=2), 0.0)
        hits, either = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
        return float(np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0).mean())

    def calibration_error(self, part: str | None = None) -> float | None:
        """Expected calibration error, a bin's confidence taken from its middle; None where :meth:`accuracy` is."""
        if self.accuracy(part) is None:
            return None
        counts = self._of(part)
        right, there = np.einsum("iib->b", counts), counts.sum(axis=(0, 1))
        middles = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS
        return float(np.clip(np.abs(right - middles * there).sum() / counts.sum(), 0.0, 1.0))

    def uncertainty(self, part: str | None = None) -> float:
        """Standard deviation of :meth:`units` by the noise alone."""
        cells = self.counts.size if part is None else self._of(part).size
        return float(self.plan.noise_multiplier * cells**0.5)

    def _of(self, part: str | None) -> NDArray[np.float64]:
        if part is None:
            return np.asarray(self.counts.sum(axis=0))
        if part not in self.plan.slices:
            raise BadInput(f"evaluation release: no slice {part!r} among {', '.join(self.plan.slices)}")
        return np.asarray(self.counts[self.plan.slices.index(part)])


def unit_histogram(
    plan: ReleasePlan, predictions: Predictions, parts: NDArray[np.int64], persons: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The exact histogram, in the plan's shape; it never leaves the site.

    Args:
        plan: says what is counted.
        predictions: of the site's validation rows.
        parts: slice of each row, by position in the plan, ``(rows,)``.
        persons: whose each row is, ``(rows,)``; None: each row is a unit.

    Raises:
        BadInput: labels or slices are not the plan's.
    """
    rows = len(predictions.targets)
    if predictions.labels != plan.labels or parts.shape != (rows,):
        raise BadInput("evaluation release: labels or slices are not those of the plan")
    if rows and not 0 <= parts.min() <= parts.max() < len(plan.slices):
        raise BadInput("evaluation release: a row is in none of the plan's slices")
    confidence = predictions.probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * CONFIDENCE_BINS).astype(np.int64) - 1, 0, CONFIDENCE_BINS - 1)
    shares = np.ones(rows)
    if persons is not None:
        numbers = np.unique(persons, return_inverse=True)[1]
        shares = (1.0 - _ROUNDING_MARGIN) / np.bincount(numbers)[numbers]
    histogram = np.zeros(plan.shape)
    np.add.at(histogram, (parts, predictions.targets, predictions.predicted, bins), shares)
    return histogram


def release(plan: ReleasePlan, histogram: NDArray[np.float64], noise: NoiseSource) -> ReleasedCounts:
    """The histogram with the plan's noise in every cell. Reserve the plan's mechanism first, settle it after."""
    import torch

    noised = noise.noisy_sum(torch.from_numpy(histogram), plan.noise_multiplier)
    return ReleasedCounts(plan, noised.numpy())
