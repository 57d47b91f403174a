"""CoNLL files: a word and its tag on each line, blank lines between sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.validation import Expected, Faults, Row

__all__ = ["FILE_COLUMN", "read_conll"]

FILE_COLUMN = "file"
"""The one column that CoNLL files have: which file a sentence stands in, by its name without the ending."""

_DOCUMENT = "-DOCSTART-"  # begins a line between documents, as in CoNLL 2003


def read_conll(path: Path, text: str, expected: Expected, faults: Faults) -> list[Row]:
    """Sentences of a file with content ``text``: words in the first column, tags in the last.

    A tab separates columns, or blanks where a line has no tab. A blank within a word becomes a no-break space, and
    a tag without a word is passed over, since such lines stand in published files.
    """
    columns = expected.columns
    if not expected.words:
        mend = 'set task.kind = "token-classification"'
        faults.add(path.name, "CoNLL holds words with tags, not texts with a label", mend)
        return []
    if columns.group or columns.partition not in {"", FILE_COLUMN}:
        mend = f'set data.column = "{FILE_COLUMN}", or give JSONL with columns beside tokens and tags'
        faults.add(path.name, f'CoNLL has no column "{columns.group or columns.partition}"', mend)
        return []
    rows = [
        Row(number, words, tags, path.stem if columns.partition else "", line)
        for number, (line, words, tags) in enumerate(_sentences(path, text, faults), start=1)
    ]
    if not rows:
        mend = "write a word and its tag on each line, and a blank line after each sentence"
        faults.add(path.name, "no sentence in this file", mend)
    return rows


def _sentences(path: Path, text: str, faults: Faults) -> Iterator[tuple[int, list[str], list[str]]]:
    """First line, words and tags of each sentence."""
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        nameless = len(cells) >= 2 and not cells[0]
        between = not line.strip() or line.startswith(_DOCUMENT)
        if between and words:
            yield first, words, tags
            words, tags = [], []
        elif not between and len(cells) < 2:
            faults.add(
                path.name, f"line {number}: one column where a word and its tag belong", "give every word a tag"
            )
        elif not between and not nameless:
            first = first if words else number
            words.append("\u00a0".join(cells[0].split()))
            tags.append(cells[-1])
