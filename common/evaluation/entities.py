"""How named entities are found: whole spans of words, counted as integers that add up.

An entity counts when its type, its first and its last word are right. seqeval reads the spans out of BIO tags, by
the rules of conlleval (Tjong Kim Sang and De Meulder 2003): an ``I-`` tag where nothing began begins an entity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from common.errors import BadInput
from common.evaluation.score import ClassScore

__all__ = ["EntityScore"]


@dataclass(frozen=True)
class EntityScore:
    """Entities by type, ``(types,)`` each; scores of parts add up by :meth:`merge`."""

    types: tuple[str, ...]
    """In alphabetical order."""
    found: tuple[int, ...]
    """Entities that are there and were predicted just so."""
    predicted: tuple[int, ...]
    true: tuple[int, ...]

    def __post_init__(self) -> None:
        counts = (self.found, self.predicted, self.true)
        rows = list(zip(*counts, strict=False))
        if any(len(each) != len(self.types) for each in counts) or any(
            not 0 <= found <= min(predicted, true) for found, predicted, true in rows
        ):
            raise BadInput("entities: counts that no set of sentences has")

    @classmethod
    def of(
        cls, labels: Sequence[str], true: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]]
    ) -> EntityScore:
        """Count the entities of sentences whose words have these tags.

        Args:
            labels: names of the tags, BIO.
            true: positions in ``labels``, for each word of each sentence.
            predicted: likewise, as many.
        """
        types = tuple(sorted({label[2:] for label in labels if label != "O"}))
        found: Counter[str] = Counter()
        claimed: Counter[str] = Counter()
        there: Counter[str] = Counter()
        for own, said in zip(true, predicted, strict=True):
            if len(own) != len(said):
                raise BadInput(f"entities: {len(said)} predicted tags for {len(own)} words")
            spans, guesses = _entities(labels, own), _entities(labels, said)
            there.update(kind for kind, _, _ in spans)
            claimed.update(kind for kind, _, _ in guesses)
            found.update(kind for kind, _, _ in spans & guesses)
        return cls(types, *(tuple(counts[kind] for kind in types) for counts in (found, claimed, there)))

    def merge(self, other: EntityScore) -> EntityScore:
        """The counts of both sets of sentences together."""
        if self.types != other.types:
            raise BadInput("entities: only counts of the same types can be merged")
        pairs = ((self.found, other.found), (self.predicted, other.predicted), (self.true, other.true))
        return EntityScore(
            self.types, *(tuple(a + b for a, b in zip(one, two, strict=True)) for one, two in pairs)
        )

    @property
    def by_type(self) -> Mapping[str, ClassScore]:
        """Precision, recall, F1 and true entities of each type."""
        rows = zip(self.types, self.found, self.predicted, self.true, strict=True)
        return {kind: _score(found, predicted, true) for kind, found, predicted, true in rows}

    @property
    def overall(self) -> ClassScore:
        """Over all entities, whatever their type (the micro average, seqeval's default)."""
        return _score(sum(self.found), sum(self.predicted), sum(self.true))

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of F1 over the types."""
        return math.fsum(each.f1 for each in self.by_type.values()) / max(1, len(self.types))

    def to_json(self) -> dict[str, object]:
        """Figures for the reader, and the counts that prove them."""
        whole = self.overall
        return {
            "precision": whole.precision,
            "recall": whole.recall,
            "f1": whole.f1,
            "macro_f1": self.macro_f1,
            "entities": whole.support,
            "types": {kind: asdict(each) for kind, each in self.by_type.items()},
            "counts": {
                kind: [found, predicted, true]
                for kind, found, predicted, true in zip(
                    self.types, self.found, self.predicted, self.true, strict=True
                )
            },
        }

    @classmethod
    def from_json(cls, value: object) -> EntityScore:
        """Restore a score from :meth:`to_json`'s dictionary: its counts, from which the figures follow."""
        counts = value.get("counts") if isinstance(value, Mapping) else None
        if not isinstance(counts, Mapping) or any(
            not isinstance(row, list) or len(row) != 3 or any(type(number) is not int for number in row)
            for row in counts.values()
        ):
            raise BadInput("entities: must be an object with counts of three integers for each type")
        types = tuple(sorted(map(str, counts)))
        columns = zip(*(counts[kind] for kind in types), strict=True) if types else ((), (), ())
        return cls(types, *map(tuple, columns))


def _entities(labels: Sequence[str], tags: Sequence[int]) -> set[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import get_entities

    return set(get_entities([labels[tag] for tag in tags]))


def _score(found: int, predicted: int, true: int) -> ClassScore:
    return ClassScore(
        precision=found / predicted if predicted else 0.0,
        recall=found / true if true else 0.0,
        f1=2 * found / (predicted + true) if predicted + true else 0.0,
        support=true,
    )
