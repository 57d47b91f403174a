"""What a saved model says of texts that have no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from common.loading import SavedNetwork, load_saved_network
from deploy.inference import SavedMaskedModel, SavedModel, SavedTagger

__all__ = ["Entity", "FilledText", "LabelledText", "Prediction", "TaggedText", "predictions"]

_GUESSES = 5


class Prediction(Protocol):
    """What is said of one text."""

    def line(self) -> str:
        """For people, without a line break."""
        ...

    def to_json(self) -> dict[str, object]:
        """For machines."""
        ...


@dataclass(frozen=True)
class LabelledText:
    """A text with its likeliest label."""

    text: str
    label: str
    probabilities: Mapping[str, float]

    def line(self) -> str:
        """Label, its probability, the text."""
        return f"{self.label}\t{self.probabilities[self.label]:.3f}\t{self.text}"

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Entity:
    """A span of words."""

    type: str
    words: str
    first: int
    """Which word of the text it begins with, from 0."""
    last: int


@dataclass(frozen=True)
class TaggedText:
    """A text with a tag for each of its words."""

    text: str
    """Its words, between single spaces."""
    tags: Sequence[str]
    entities: Sequence[Entity]

    def line(self) -> str:
        """Words that belong to an entity in brackets, with its type."""
        said: list[str] = []
        words = self.text.split(" ")
        begins = {entity.first: entity for entity in self.entities}
        place = 0
        while place < len(words):
            entity = begins.get(place)
            said.append(f"[{entity.type} {entity.words}]" if entity else words[place])
            place = entity.last + 1 if entity else place + 1
        return " ".join(said)

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return {"text": self.text, "tags": list(self.tags), "entities": [asdict(each) for each in self.entities]}


@dataclass(frozen=True)
class FilledText:
    """A text with masks, and the likeliest words in their places."""

    text: str
    guesses: Sequence[Sequence[tuple[str, float]]]
    """For each mask words with their probabilities, the likeliest first."""

    def line(self) -> str:
        """The guesses of each mask, then the text."""
        masks = "; ".join(", ".join(f"{word} {chance:.3f}" for word, chance in row) for row in self.guesses)
        return f"{masks}\t{self.text}"

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return {"text": self.text, "guesses": [[list(pair) for pair in row] for row in self.guesses]}


def predictions(model: Path, texts: Sequence[str]) -> Iterator[Prediction]:
    """What the model in a folder says of each text, after its own task.

    Raises:
        BadInput: the folder holds no model, or a text has no mask for a model that fills masks.
    """
    saved = load_saved_network(model)
    if saved.kind == "token-classification":
        yield from _tagged(SavedTagger(model, saved), texts)
    elif saved.kind == "masked-language-modeling":
        filler = SavedMaskedModel(model, saved)
        for text in texts:
            yield FilledText(text, filler.guesses(text, _GUESSES))
    else:
        yield from _labelled(model, saved, texts)


def _labelled(model: Path, saved: SavedNetwork, texts: Sequence[str]) -> Iterator[LabelledText]:
    classifier = SavedModel(model, saved)
    for text, chances in zip(texts, classifier.probabilities(texts), strict=True):
        named = {label: round(float(p), 6) for label, p in zip(saved.labels, chances, strict=True)}
        yield LabelledText(text, saved.labels[int(chances.argmax())], named)


def _tagged(tagger: SavedTagger, texts: Sequence[str]) -> Iterator[TaggedText]:
    from seqeval.metrics.sequence_labeling import get_entities

    written = [" ".join(text.split()) for text in texts]
    tokens = tagger.tokenized(written)
    assert tokens.tags is not None  # a tagger's tokens have tags
    best = np.split(tagger.logits(tokens).argmax(axis=1), tokens.tags.offsets[1:-1])
    for text, seen, found in zip(written, tokens.tags.words_by_text(), best, strict=True):
        words = text.split(" ")
        tags = ["O"] * len(words)
        for word, label in zip(seen, found.tolist(), strict=True):
            tags[word] = tagger.labels[label]
        spans = [Entity(kind, " ".join(words[a : b + 1]), a, b) for kind, a, b in get_entities(tags)]
        yield TaggedText(text, tags, spans)
