"""What a text classifier learns from: examples, and the data sets that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Columns", "Dataset", "Example", "fingerprint", "rows_of_units"]


@dataclass(frozen=True, slots=True)
class Example:
    """One text with its label.

    The text never shows in a ``repr``, so that no log or traceback can carry it.
    """

    text: str = field(repr=False)
    label: int = field(repr=False)
    """Position of the label in the study's ``labels``."""
    domain: str = field(default="", repr=False)
    """Value of the partition column; empty where the source has none."""
    group: str = field(default="", repr=False)
    """The person whose row this is, under unit "group"; empty where each row is a unit of its own."""
    tags: tuple[int, ...] = field(default=(), repr=False)
    """Position of each word's tag; words are what stands between single spaces. Empty where words have no tags."""

    @property
    def target(self) -> str:
        """What is to be learned of the text, written out: its label, or the tags of its words."""
        return ",".join(map(str, self.tags)) if self.tags else str(self.label)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled texts, with the validation and test parts that came ready-made with them, if any."""

    examples: tuple[Example, ...] = field(repr=False)
    labels: tuple[str, ...]
    validation: tuple[Example, ...] = field(default=(), repr=False)
    test: tuple[Example, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that are read; all others are ignored."""

    text: str = "text"
    label: str = "label"
    """Empty: texts alone are read."""
    partition: str = ""
    """Column that names each row's institution in a simulation; empty: none."""
    group: str = ""
    """Column that names each row's person; empty: each row is a unit of its own."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that a source must have: text, then label, partition and group where they are named."""
        return (self.text, *(column for column in (self.label, self.partition, self.group) if column))

    @property
    def keys(self) -> tuple[str, ...]:
        """The study's key that names each of the wanted columns."""
        keys = ["data.text_column"]
        if self.label:
            keys.append("data.label_column")
        if self.partition:
            keys.append("data.column")
        if self.group:
            keys.append("privacy.group_column")
        return tuple(keys)


def rows_of_units(examples: Sequence[Example]) -> list[list[int]]:
    """Positions of each unit's rows: all rows of a person, or a row by itself; units by their first row."""
    units: dict[str | int, list[int]] = {}
    for row, example in enumerate(examples):
        units.setdefault(example.group or row, []).append(row)
    return list(units.values())


def fingerprint(dataset: Dataset) -> str:
    """Hexadecimal SHA-256 of what a data set says: labels, and the rows of each part in their order.

    It does not depend on the kind of file. It is not keyed, so it can confirm a guess of the content:
    for embedded and public data only, never for what leaves a real site.
    """
    digest = hashlib.sha256(b"hanse dataset 1\n")
    _feed(digest, dataset.labels)
    for part in (dataset.examples, dataset.validation, dataset.test):
        digest.update(len(part).to_bytes(8, "big"))
        for example in part:
            person = (example.group,) if example.group else ()
            _feed(digest, (example.text, _target(example, dataset.labels), example.domain, *person))
    return digest.hexdigest()


def _target(example: Example, labels: Sequence[str]) -> str:
    """What the example says of its text, in the names of the labels; nothing where there are none."""
    if example.tags:
        return " ".join(labels[tag] for tag in example.tags)
    return labels[example.label] if labels else ""


def _feed(digest: hashlib._Hash, values: Iterable[str]) -> None:
    """Add strings so that no two different sequences give the same bytes."""
    encoded = [value.encode() for value in values]
    digest.update(len(encoded).to_bytes(8, "big"))
    for value in encoded:
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
