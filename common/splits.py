"""Training, validation and test parts by a keyed hash of each unit, and the cap on a person's rows.

A row's part depends on its own text and the key alone, or on its person's id where rows have one (P10):
removing or adding a unit moves no other. Equal texts fall together, so that no text is trained on and tested
on; under persons it is the person who is never in two parts, and two persons may have written the same text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.errors import BadInput
from common.examples import Dataset, Example, rows_of_units

__all__ = ["Fractions", "Splits", "capped", "capped_units", "part_of", "split"]

_SPLIT = b"hanse split 1\n"
_CAP = b"hanse cap 1\n"
_PERSON_CAP = b"hanse person cap 1\n"


@dataclass(frozen=True, slots=True)
class Fractions:
    """Expected shares of the validation and the test part; the rest trains."""

    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        for name, value in (("validation", self.validation), ("test", self.test)):
            if not 0 <= value < 1:
                raise BadInput(f"data.{name}_fraction = {value}: must be at least 0 and less than 1")
        if self.validation + self.test >= 1:
            raise BadInput(
                f"data.validation_fraction = {self.validation}, data.test_fraction = {self.test}: "
                "nothing is left to train on; their sum must be below 1"
            )


class Splits(NamedTuple):
    """The three parts of a data set, each in the order of its rows."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def __repr__(self) -> str:
        return "Splits()"


_DEFAULT_FRACTIONS = Fractions()


def split(dataset: Dataset, key: bytes | int, fractions: Fractions = _DEFAULT_FRACTIONS) -> Splits:
    """Split a data set; a part that came ready-made is taken as it is, and only the others are drawn.

    Args:
        dataset: what to split.
        key: secret bytes at a real site, the study's seed in a simulation.
        fractions: expected shares of the rows that are drawn for validation and test.

    Raises:
        BadInput: a part that was asked for stays empty.

    """
    drawn = Fractions(
        0.0 if dataset.validation else fractions.validation,
        0.0 if dataset.test else fractions.test,
    )
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in dataset.examples:
        parts[part_of(example.group or example.text, key, drawn)].append(example)
    for name, share in (("train", 1.0), ("validation", drawn.validation), ("test", drawn.test)):
        if share and not parts[name]:
            raise BadInput(f"data: the split leaves the {name} part empty; give more rows or a larger share")
    return Splits(
        tuple(parts["train"]),
        dataset.validation or tuple(parts["validation"]),
        dataset.test or tuple(parts["test"]),
    )


def part_of(unit: str, key: bytes | int, fractions: Fractions) -> str:
    """Name the part of a text or person, ``train``, ``validation`` or ``test``: of these arguments alone."""
    place = int.from_bytes(_keyed_hash(key, _SPLIT, unit)[:8], "big") / 2**64
    if place < fractions.test:
        return "test"
    return "validation" if place < fractions.test + fractions.validation else "train"


def capped(examples: Sequence[Example], limit: int, key: bytes | int) -> tuple[Example, ...]:
    """At most ``limit`` examples of a public set, chosen by keyed hash of the text, in their order.

    Which rows stay depends on the other rows: for public validation and test sets only, never for
    rows that privacy protects.
    """
    if limit < 1:
        raise BadInput(f"limit = {limit}: must be at least 1")
    if len(examples) <= limit:
        return tuple(examples)
    by_hash = sorted(range(len(examples)), key=lambda row: _keyed_hash(key, _CAP, examples[row].text))
    return tuple(examples[row] for row in sorted(by_hash[:limit]))


def capped_units(examples: Sequence[Example], limit: int, key: bytes | int) -> tuple[Example, ...]:
    """At most ``limit`` rows of each person, in their order; rows without a person all stay.

    Which rows stay is a keyed hash over that person's rows alone: removing a person changes no other's (P10).
    """
    if limit < 1:
        raise BadInput(f"limit = {limit}: must be at least 1")
    kept: list[int] = []
    for rows in rows_of_units(examples):
        if len(rows) > limit:
            ranks = _ranks([examples[row] for row in rows], key)
            rows = [row for _, row in sorted(zip(ranks, rows, strict=True))[:limit]]
        kept.extend(rows)
    return tuple(examples[row] for row in sorted(kept))


def _ranks(own: Sequence[Example], key: bytes | int) -> list[bytes]:
    """Keyed hash of each of one person's rows; the count tells equal rows apart, whatever their order."""
    seen: Counter[Example] = Counter()
    ranks = []
    for example in own:
        seen[example] += 1
        parts = (example.group, example.text, example.target, example.domain, str(seen[example]))
        ranks.append(_keyed_hash(key, _PERSON_CAP, "".join(f"{len(part)}:{part}" for part in parts)))
    return ranks


def _keyed_hash(key: bytes | int, purpose: bytes, text: str) -> bytes:
    """HMAC-SHA256 of a text for one purpose."""
    secret = key if isinstance(key, bytes) else str(key).encode()
    return hmac.digest(secret, purpose + text.encode(), hashlib.sha256)
