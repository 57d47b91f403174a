"""The one validating pass over the rows of a source.

It collects every fault of the input and tells them at once, with row numbers, to the local operator
only (P15). A text never enters a message, and a label or column name only when it is one short word,
because a file whose columns are mixed up has texts in their place.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from common.errors import BadInput
from common.examples import Columns, Example
from common.shown import LONGEST_SHOWN, shown
from common.words import WordFault, words_and_tags

__all__ = [
    "Expected",
    "Faults",
    "Row",
    "SourceReport",
    "class_counts",
    "example_warnings",
    "place",
    "shown",
    "validate_rows",
]

FAULTS_TOLD = 5


@dataclass(frozen=True, slots=True)
class Expected:
    """What a source has to offer: the columns to read and the labels that may stand there."""

    labels: tuple[str, ...]
    columns: Columns
    words: bool = False
    """Whether text and label are lists: words, and a tag for each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read, not yet trusted. ``None`` stands for a value that is not there."""

    number: int
    """Data row, counted from 1; the header is not a row."""
    text: object = field(repr=False)
    label: object = field(repr=False)
    domain: object = field(default="", repr=False)
    line: int | None = None
    """Physical line of the file where the row starts, where there is one."""
    group: object = field(default="", repr=False)

    @classmethod
    def of(cls, number: int, cells: Sequence[object], line: int | None = None, labelled: bool = True) -> Row:
        """Row from its cells in the order of ``Columns.wanted``, which has a label or not."""
        text, label, *further = cells if labelled else (cells[0], None, *cells[1:])
        # A single further cell is either of the two; the columns tell which, and nobody reads the other.
        domain, group = (further[0], further[-1]) if further else ("", "")
        return cls(number, text, label, domain, line, group)

    @property
    def place(self) -> str:
        """Where the row stands, for a message."""
        return place(self.number, self.line)


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What the validating pass found, over all parts of a source; for the local operator only."""

    rows: int = field(repr=False)
    class_counts: dict[str, int] = field(repr=False)
    """Rows of each label, in the order of the study's labels."""
    warnings: tuple[str, ...] = field(default=(), repr=False)


class Faults:
    """Gathers what is wrong with an input, so that a person can mend it all at once."""

    def __init__(self) -> None:
        self._told: list[tuple[str, str]] = []
        self._mends: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, file: str, what: str, mend: str) -> None:
        """Note one fault: the file, what is wrong (with its place in the file), and the mend."""
        self._count += 1
        if len(self._told) < FAULTS_TOLD:
            self._told.append((file, what))
            if mend not in self._mends:
                self._mends.append(mend)

    def refuse(self) -> None:
        """Raise BadInput in one line if any fault was noted."""
        if not self._count:
            return
        told: list[str] = []
        before = ""
        for file, what in self._told:
            told.append(what if file == before else f"{file}: {what}")
            before = file
        more = self._count - len(self._told)
        if more:
            told.append(f"and {more} more")
        raise BadInput(f"{' | '.join(told)}; {', '.join(self._mends)}")


def place(number: int, line: int | None = None) -> str:
    """Where a row stands, for a message."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


def validate_rows(file: str, rows: Sequence[Row], expected: Expected, faults: Faults) -> tuple[Example, ...]:
    """Turn rows into examples; note the fault of each row that cannot be one.

    A label, or a word's tag, is a name from the study's labels or, where the column holds integers, a position in
    them; a column that mixes both is a fault. Positions are not accepted where a label's name is a number.
    """
    reader = _LabelReader(expected)
    examples: list[Example] = []
    for row in rows:
        said = _words(file, row, reader, faults) if expected.words else _text(file, row, reader, faults)
        domain = _name(row.domain) if expected.columns.partition else ""
        if domain is None:
            faults.add(file, f"{row.place}: {expected.columns.partition} is empty", "name each row's partition")
        group = _name(row.group) if expected.columns.group else ""
        if group is None:
            faults.add(
                file,
                f"{row.place}: {expected.columns.group} names no person",
                "give every row its person's id, in text or as a whole number, or remove the row",
            )
        if said is not None and domain is not None and group is not None:
            text, label, tags = said
            examples.append(Example(text, label, domain, group, tags))
    reader.refuse_mixture(file, faults)
    return tuple(examples)


_Said: TypeAlias = tuple[str, int, tuple[int, ...]]  # a text, its label, the tags of its words


def _text(file: str, row: Row, reader: _LabelReader, faults: Faults) -> _Said | None:
    columns, labels = reader.expected.columns, reader.expected.labels
    problem = _text_problem(row.text, columns.text)
    if problem:
        faults.add(file, f"{row.place}: {problem}", "give every row a text in UTF-8 or remove the row")
    label = reader.read(row.label, row.place) if columns.label else 0
    if label is None:
        what = f"{row.place}: {columns.label} = {shown(row.label)}: not one of {', '.join(labels)}"
        faults.add(file, what, reader.mend(row.label))
    return None if problem or label is None else (str(row.text), label, ())


def _words(file: str, row: Row, reader: _LabelReader, faults: Faults) -> _Said | None:
    try:
        text, tags = words_and_tags(row.text, row.label, lambda tag: reader.read(tag, row.place))
    except WordFault as fault:
        columns = reader.expected.columns
        faults.add(file, f"{row.place}: {columns.text} and {columns.label}: {fault.what}", fault.mend)
        return None
    return text, 0, tags


def example_warnings(file: str, examples: Sequence[Example], labels: Sequence[str]) -> tuple[str, ...]:
    """Warn of what is lawful but looks wrong: repeated texts, contradicting labels, a label without rows."""
    seen: dict[str, set[str]] = {}
    for example in examples:
        seen.setdefault(example.text, set()).add(example.target)
    repeated = len(examples) - len(seen)
    conflicting = sum(len(found) > 1 for found in seen.values())
    counts = class_counts(examples, labels)
    unused = [name for name in labels if not counts[name]]
    warnings = []
    if repeated:
        warnings.append(f"{file}: {repeated} rows repeat the text of an earlier row")
    if conflicting:
        warnings.append(f"{file}: {conflicting} texts stand there with different labels")
    if examples and unused:
        warnings.append(f"{file}: no row has the label {', '.join(unused)}")
    return tuple(warnings)


class _LabelReader:
    """Reads labels by name or by position, and remembers which of the two was seen."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self._by_name = {name: position for position, name in enumerate(expected.labels)}
        self._positions_mean_something = not any(_integer(name) is not None for name in expected.labels)
        self._first_name = ""
        self._first_position = ""

    def read(self, label: object, where: str) -> int | None:
        """Position of a row's label, or of a tag in it, or None if there is no such label."""
        name = str(label) if _integer(label) is not None else label
        if isinstance(name, str) and name in self._by_name:
            self._first_name = self._first_name or where
            return self._by_name[name]
        position = _integer(label) if self._positions_mean_something else None
        if position is None or not 0 <= position < len(self._by_name):
            return None
        self._first_position = self._first_position or where
        return position

    def mend(self, label: object) -> str:
        """Advise what a person may do about a label that is none."""
        if isinstance(label, str):
            likely = {name.lower(): name for name in self._by_name}
            near = difflib.get_close_matches(label.strip().lower(), likely, n=1, cutoff=0.8)
            if near:
                return f'did you mean "{likely[near[0]]}"?'
        return "correct the label or add it to task.labels"

    def refuse_mixture(self, file: str, faults: Faults) -> None:
        """Note a fault if the column holds names in some rows and positions in others."""
        if self._first_name and self._first_position:
            faults.add(
                file,
                f"{self.expected.columns.label} mixes names (first in {self._first_name}) "
                f"with positions (first in {self._first_position})",
                "write all labels one way",
            )


def _integer(value: object) -> int | None:
    """Integer that a value is or spells; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= LONGEST_SHOWN and value.isascii():
        return int(value) if value.removeprefix("-").isdigit() else None
    return None


def _text_problem(text: object, column: str) -> str:
    """Say what keeps a value from being the text of an example; empty if nothing does."""
    if text is None:
        return f"{column} is missing"
    if not isinstance(text, str):
        return f"{column} is no text but {type(text).__name__}"
    if not text.strip():
        return f"{column} is empty"
    return f"{column} holds half a character (a lone surrogate)" if _half_a_character(text) else ""


def _half_a_character(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _name(value: object) -> str | None:
    """Name of the partition or person that a row belongs to, or None if it names none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    name = str(value).strip()
    return None if _half_a_character(name) else name or None


def class_counts(examples: Iterable[Example], labels: Sequence[str]) -> dict[str, int]:
    """Rows of each label, or words of each tag, in the order of the labels."""
    counts = Counter(tag for example in examples for tag in example.tags or (example.label,))
    return {name: counts[position] for position, name in enumerate(labels)}
