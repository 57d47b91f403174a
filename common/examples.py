"""What a text classifier learns from: examples, and the data sets that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Columns", "Dataset", "Example", "fingerprint"]


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
    partition: str = ""
    """Column that names each row's institution in a simulation; empty: none."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that a source must have."""
        return (self.text, self.label, self.partition) if self.partition else (self.text, self.label)


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
            _feed(digest, (example.text, dataset.labels[example.label], example.domain))
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, values: Iterable[str]) -> None:
    """Add strings so that no two different sequences give the same bytes."""
    encoded = [value.encode() for value in values]
    digest.update(len(encoded).to_bytes(8, "big"))
    for value in encoded:
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
