"""What `hanse evaluate` does: load a saved model and a labelled set, pass over it once, report everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.evaluation.evaluate import Evaluation
from common.evaluation.figures import Predictions
from common.evaluation.report import Report, TaggedTexts, report_on_tags, report_on_texts
from common.evaluation.slices import length_names
from common.examples import Columns, Example
from common.loading import SavedNetwork, load_saved_network
from common.sources import load_source
from common.study import TaskKind
from deploy.inference import SavedMaskedModel, SavedModel, SavedTagger

__all__ = ["Asked", "Evaluated", "evaluate_saved"]

_WORD_COLUMNS = {"text": "tokens", "label": "tags"}  # what the defaults mean where words have tags
_LENGTH = "length"


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated on what."""

    data: str
    """A source, as ``common.sources.load_source`` takes it."""
    columns: Columns
    """The partition is what is scored as domain."""
    slices: Sequence[str] = ()
    """Further columns whose values are scored apart."""
    seed: int = 0
    """Of bootstrap resamples, and of masks."""


@dataclass(frozen=True)
class Evaluated:
    """What was found, and what the source was warned of."""

    found: Report | Evaluation
    labels: list[str]
    part: str
    """Which rows were scored."""
    warnings: tuple[str, ...] = field(default=())


def evaluate_saved(model: Path, asked: Asked) -> Evaluated:
    """Evaluate the model in a folder on the test part of a source, or on all its rows where it has none.

    Raises:
        BadInput: there is no such model, or the source cannot be read.
    """
    saved = load_saved_network(model)
    columns = _columns(asked.columns, saved.kind)
    dataset, report = load_source(asked.data, saved.labels, columns, saved.kind)
    examples = dataset.test or dataset.examples
    domains = [example.domain for example in examples] if any(e.domain for e in examples) else None
    slices = {name: _values(asked.data, saved, columns, name) for name in asked.slices}
    found = _found(model, saved, examples, domains, _Extra(slices, asked.seed))
    return Evaluated(found, saved.labels, "test part" if dataset.test else "all rows", report.warnings)


@dataclass(frozen=True)
class _Extra:
    slices: dict[str, list[str]]
    seed: int


def _found(
    model: Path, saved: SavedNetwork, examples: Sequence[Example], domains: list[str] | None, extra: _Extra
) -> Report | Evaluation:
    texts = [example.text for example in examples]
    if saved.kind == "masked-language-modeling":
        return SavedMaskedModel(model, saved).evaluate(texts, extra.seed, domains)
    if saved.kind == "token-classification":
        tagger = SavedTagger(model, saved)
        tokens = tagger.tokenized(texts)
        assert tokens.tags is not None  # a tagger's tokens have tags
        tagged = TaggedTexts([example.tags for example in examples], tokens.tags.words_by_text())
        slices = {_LENGTH: length_names(tokens.lengths), **extra.slices}
        return report_on_tags(saved.labels, tagger.logits(tokens), tagged, slices, domains, extra.seed)
    classifier = SavedModel(model, saved)
    tokens = classifier.tokenized(texts)
    labels = np.array([example.label for example in examples], np.int64)
    predictions = Predictions(classifier.logits(tokens), labels, tuple(saved.labels))
    slices = {_LENGTH: length_names(tokens.lengths), **extra.slices}
    return report_on_texts(predictions, slices, domains, extra.seed)


def _columns(asked: Columns, kind: TaskKind) -> Columns:
    if kind == "token-classification" and (asked.text, asked.label) == tuple(_WORD_COLUMNS):
        return Columns(_WORD_COLUMNS["text"], _WORD_COLUMNS["label"], asked.partition)
    if kind == "masked-language-modeling":
        return Columns(asked.text, "", asked.partition)
    return asked


def _values(data: str, saved: SavedNetwork, columns: Columns, column: str) -> list[str]:
    """The values of one more column, row by row; rows are those of the first reading."""
    with_column = Columns(columns.text, columns.label, column)
    dataset, _ = load_source(data, saved.labels, with_column, saved.kind)
    return [example.domain for example in dataset.test or dataset.examples]
