"""The whole check of a file: read as training would read it, then looked at; nothing is changed or sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import BadInput
from common.examples import Columns, Example
from common.reading import read_file
from common.validation import Expected, Faults, Row, class_counts, example_warnings, validate_rows
from deploy.data_check.duplicates import duplicate_groups, near_duplicate_groups
from deploy.data_check.label_noise import (
    FEWEST_OF_A_LABEL,
    encoder_features,
    suspected_labels,
    word_features,
)
from deploy.data_check.texts import Lengths, Rows, languages, lengths, personal_data, scripts

__all__ = ["NOTHING_CHANGED", "DataReport", "Repeats", "Wanted", "check_file"]

NOTHING_CHANGED = (
    "Nothing was changed, and nothing left this machine. Rows that you drop because of other rows (duplicates, "
    "suspected labels) make a new version of the dataset: keep its name and budget in the policy; the choice "
    "itself is not covered by the guarantee (P4, P10)."
)
_MOST_LABELS = 1000


@dataclass(frozen=True)
class Wanted:
    """What to look for, and how."""

    columns: Columns
    labels: tuple[str, ...] = ()
    """As the study names them; empty: what stands in the file."""
    features: str = "encoder"
    """Behind label noise: ``encoder``, ``words`` or ``none``."""
    base: str = "minilm-l6"
    max_length: int = 64
    seed: int = 7


@dataclass(frozen=True)
class Repeats:
    """Texts that stand there more than once."""

    groups: int
    rows: Rows
    """Rows that repeat an earlier one."""
    with_other_labels: int
    """Groups whose rows do not have one label."""


@dataclass(frozen=True)
class DataReport:
    """What was found; holds numbers of rows and no text."""

    rows: int
    usable: int
    faults: int
    told: str
    """What validation says, as training would; empty where it says nothing."""
    warnings: tuple[str, ...]
    labels: dict[str, int]
    """Rows of each label."""
    commonest_share: float | None
    """Accuracy of always giving the commonest label."""
    lengths: Lengths | None
    scripts: dict[str, int]
    languages: dict[str, int]
    personal: dict[str, Rows]
    duplicates: Repeats
    near_duplicates: Repeats
    suspected: Rows | None
    """Rows whose label may be wrong; None where nothing can be said, for the reason in ``not_looked_at``."""
    not_looked_at: str
    most_rows_of_a_person: int | None
    """None without a column of persons."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {**asdict(self), "statement": NOTHING_CHANGED}


def check_file(path: Path, wanted: Wanted) -> DataReport:
    """Check one file.

    Raises:
        BadInput: the file cannot be read at all, or has no two labels.
    """
    faults = Faults()
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a .csv, .jsonl or .parquet file")
    read = read_file(path, Expected(wanted.labels, wanted.columns), faults)
    if not read:
        faults.refuse()
    expected = Expected(wanted.labels or _labels_of(path, read), wanted.columns)
    examples, numbers = _usable(path.name, read, expected)
    validate_rows(path.name, read, expected, faults)
    texts = [example.text for example in examples]
    counts = class_counts(examples, expected.labels)
    suspected, why_not = _suspected(examples, numbers, wanted)
    persons = Counter(example.group for example in examples) if wanted.columns.group else Counter()
    return DataReport(
        rows=len(read),
        usable=len(examples),
        faults=len(faults),
        told=_told(faults),
        warnings=example_warnings(path.name, examples, expected.labels),
        labels=counts,
        commonest_share=max(counts.values()) / len(examples) if examples else None,
        lengths=lengths(texts),
        scripts=scripts(texts),
        languages=languages(texts),
        personal=personal_data(texts, numbers),
        duplicates=_repeats(duplicate_groups(texts), examples, numbers),
        near_duplicates=_repeats(near_duplicate_groups(texts), examples, numbers),
        suspected=suspected,
        not_looked_at=why_not,
        most_rows_of_a_person=max(persons.values(), default=0) if wanted.columns.group else None,
    )


def _labels_of(path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Labels that stand in the file, in the order of their names."""
    found = sorted({str(row.label).strip() for row in rows if row.label is not None and str(row.label).strip()})
    if not 2 <= len(found) <= _MOST_LABELS:
        raise BadInput(
            f"{path.name}: {len(found)} different labels: must be 2 to {_MOST_LABELS}; name the label column with "
            "--label-column, or the labels with --labels"
        )
    return tuple(found)


def _usable(file: str, rows: Sequence[Row], expected: Expected) -> tuple[list[Example], list[int]]:
    """Rows that can be trained on, each with its number in the file."""
    examples: list[Example] = []
    numbers: list[int] = []
    for row in rows:
        for example in validate_rows(file, [row], expected, Faults()):
            examples.append(example)
            numbers.append(row.number)
    return examples, numbers


def _told(faults: Faults) -> str:
    try:
        faults.refuse()
    except BadInput as error:
        return str(error)
    return ""


def _repeats(groups: Sequence[Sequence[int]], examples: Sequence[Example], numbers: Sequence[int]) -> Repeats:
    later = [numbers[row] for group in groups for row in group[1:]]
    return Repeats(
        len(groups), Rows.of(later), sum(len({examples[row].label for row in group}) > 1 for group in groups)
    )


def _suspected(examples: Sequence[Example], numbers: Sequence[int], wanted: Wanted) -> tuple[Rows | None, str]:
    if wanted.features == "none":
        return None, "label noise: not asked for"
    counts = Counter(example.label for example in examples)
    if len(counts) < 2 or min(counts.values()) < FEWEST_OF_A_LABEL:
        return None, f"label noise: needs two labels with {FEWEST_OF_A_LABEL} rows each"
    texts = [example.text for example in examples]
    if wanted.features == "words":
        features = word_features(texts)
    else:
        features = encoder_features(texts, wanted.base, wanted.max_length)
    present = {label: position for position, label in enumerate(sorted(counts))}
    labels = np.array([present[example.label] for example in examples], dtype=np.int64)
    found = suspected_labels(features, labels, wanted.seed)
    # Most suspect first, unlike other lists of rows.
    ranked = tuple(numbers[row] for row in found[:10])
    return Rows(len(found), ranked), ""
