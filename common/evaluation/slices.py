"""The same figures on parts of the examples: by length, by site, by any column; and how far the parts differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.evaluation.evaluate import Evaluation
from common.evaluation.masked import MaskedScore

__all__ = ["LENGTH_EDGES", "Slices", "length_names", "slices"]

LENGTH_EDGES = (8, 16, 32, 64, 128, 256)
"""Tokens of the longest text of each bucket but the last."""


@dataclass(frozen=True)
class Slices:
    """The parts by the values of one column."""

    parts: Mapping[str, Mapping[str, float | int]]
    """By value: examples, loss, accuracy, macro_f1, and entity_f1 where words have tags."""
    worst: str
    """The part that does worst, by the figure by which models are compared."""
    best: str
    gap: float
    """How far the two lie apart in that figure: 0 where all do equally well."""

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        parts = {name: dict(part) for name, part in self.parts.items()}
        return {"parts": parts, "worst": self.worst, "best": self.best, "gap": self.gap}


def slices(
    columns: Mapping[str, Sequence[str]], evaluate: Callable[[Sequence[str]], Evaluation]
) -> dict[str, Slices]:
    """The parts of each column; ``evaluate`` scores with the value of each text as its domain."""
    return {name: _slices(evaluate(values)) for name, values in columns.items()}


def length_names(tokens: NDArray[np.int64]) -> list[str]:
    """Bucket of each text by its tokens, special ones counted, such as ``17-32``."""
    lowest = [1, *(edge + 1 for edge in LENGTH_EDGES)]
    highest = [*map(str, LENGTH_EDGES), ""]
    names = [f"{low:03d}-{high.zfill(3) if high else ''}" for low, high in zip(lowest, highest, strict=True)]
    return [names[bucket] for bucket in np.searchsorted(LENGTH_EDGES, tokens)]


def _slices(evaluation: Evaluation) -> Slices:
    parts: dict[str, dict[str, float | int]] = {}
    standing: dict[str, float] = {}
    for name, score in evaluation.by_domain.items():
        part: dict[str, float | int] = {"examples": score.examples, "loss": score.loss, "accuracy": score.accuracy}
        if not isinstance(score, MaskedScore):
            part["macro_f1"] = score.macro_f1
        entities = evaluation.entities_by_domain.get(name)
        if entities is not None:
            part |= {"entities": entities.overall.support, "entity_f1": entities.overall.f1}
        parts[name] = part
        standing[name] = Evaluation(score, entities=entities).headline
    worst, best = (choose(sorted(standing), key=lambda name: standing[name]) for choose in (min, max))
    return Slices(parts, worst, best, standing[best] - standing[worst])
