"""Everything that one pass over a labelled set says of a model, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, entity_interval, intervals
from common.evaluation.entities import EntityScore
from common.evaluation.evaluate import Evaluation, evaluate_logits, evaluate_tags, predicted_tags
from common.evaluation.figures import Figures, Predictions
from common.evaluation.slices import Slices, slices
from common.evaluation.thresholds import Thresholds

__all__ = ["Report", "TaggedTexts", "report_on_tags", "report_on_texts"]


@dataclass(frozen=True)
class TaggedTexts:
    """Tags of words as they are, and where the model can say something of them."""

    true: Sequence[Sequence[int]] = field(repr=False)
    """Of every word of every text."""
    words: Sequence[Sequence[int]] = field(repr=False)
    """Which words of each text have logits, in their order."""


@dataclass(frozen=True)
class Report:
    """A model on a set; `to_json` has the evaluation's own keys and more."""

    evaluation: Evaluation
    figures: Figures
    thresholds: Thresholds
    intervals: Mapping[str, Interval]
    slices: Mapping[str, Slices]
    seed: int
    """Of the resamples that the intervals come from."""

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return {
            **self.evaluation.to_json(),
            "figures": self.figures.to_json(),
            "thresholds": self.thresholds.to_json(),
            "intervals": {
                "level": LEVEL,
                "resamples": RESAMPLES,
                "seed": self.seed,
                **{name: asdict(interval) for name, interval in self.intervals.items()},
            },
            "slices": {name: each.to_json() for name, each in self.slices.items()},
        }


def report_on_texts(
    predictions: Predictions,
    columns: Mapping[str, Sequence[str]],
    domains: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """The report on texts with a label each.

    Args:
        predictions: one for each text.
        columns: by name, a value for each text; each becomes slices.
        domains: the site or domain of each text.
        seed: of the resamples.
    """
    logits, targets = predictions.logits, predictions.targets
    return Report(
        evaluate_logits(logits, targets, domains),
        Figures.of(predictions),
        Thresholds.of(predictions),
        intervals(predictions, seed),
        slices(columns, lambda values: evaluate_logits(logits, targets, values)),
        seed,
    )


def report_on_tags(
    labels: Sequence[str],
    logits: NDArray[np.float32],
    texts: TaggedTexts,
    columns: Mapping[str, Sequence[str]],
    domains: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """The report on words with a tag each; ``logits`` are of the words that have them, text after text."""
    true, words = texts.true, texts.words
    targets = np.array([own[word] for own, seen in zip(true, words, strict=True) for word in seen], np.int64)
    whose = np.repeat(np.arange(len(words)), [len(seen) for seen in words])
    predictions = Predictions(logits, targets, tuple(labels), whose)
    predicted = predicted_tags(labels, logits, true, words)
    by_text = [EntityScore.of(labels, [own], [said]) for own, said in zip(true, predicted, strict=True)]
    return Report(
        evaluate_tags(labels, logits, true, words, domains),
        Figures.of(predictions),
        Thresholds.of(predictions),
        {**intervals(predictions, seed), "entity_f1": entity_interval(by_text, seed)},
        slices(columns, lambda values: evaluate_tags(labels, logits, true, words, values)),
        seed,
    )
