"""Rows from a CSV, JSONL or Parquet file, each with its number and, in text files, its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.conll import read_conll
from common.validation import Expected, Faults, Row, place, shown

__all__ = ["KINDS", "check_columns", "read_file"]

LONGEST_CELL = 2**24
"""Characters in one CSV cell; the standard library's own bound would refuse a long document."""

COLUMNS_NAMED = 12


def read_file(path: Path, expected: Expected, faults: Faults) -> list[Row]:
    """Rows of one file, by its ending; a file that gives none has at least one fault noted."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        faults.add(path.name, "not a kind of file that is read here", f"use {', '.join(KINDS)}")
        return []
    return read(path, expected, faults)


def check_columns(file: str, present: Sequence[str], expected: Expected, faults: Faults) -> bool:
    """Whether each wanted column is there exactly once; notes a fault for each that is not."""
    before = len(faults)
    missing = set(expected.columns.wanted) - set(present)
    if missing and set(present) & set(expected.labels):
        header = ",".join(expected.columns.wanted)
        faults.add(file, "the first row looks like data, not like a header", f"start with the line {header}")
        return False
    names = ", ".join(shown(name) for name in present[:COLUMNS_NAMED])
    more = f" and {len(present) - COLUMNS_NAMED} more" if len(present) > COLUMNS_NAMED else ""
    for key, column in zip(expected.columns.keys, expected.columns.wanted, strict=True):
        count = list(present).count(column)
        if count == 0:
            mend = f"set {key} to the column's name"
            if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
                mend = "separate the columns by commas"
            faults.add(file, f'no column "{column}" among {names}{more}', mend)
        elif count > 1:
            faults.add(file, f'{count} columns are named "{column}"', "keep one")
    return len(faults) == before


def _read_csv(path: Path, expected: Expected, faults: Faults) -> list[Row]:
    if expected.words:
        faults.add(path.name, "CSV has no lists of words and tags", "give CoNLL, JSONL or Parquet")
        return []
    text = _decoded(path, faults)
    if text is None:
        return []
    records = _csv_records(text)
    _, first = next(records, (1, None))
    if first is None:
        faults.add(path.name, "the header is not well-formed CSV", "check its quotes")
        return []
    header = [name.strip() for name in first]
    if not check_columns(path.name, header, expected, faults):
        return []
    positions = [header.index(column) for column in expected.columns.wanted]
    rows: list[Row] = []
    number = 0
    for number, (line, cells) in enumerate(records, start=1):
        if cells is None:
            faults.add(path.name, f"{place(number, line)}: not well-formed CSV", "check its quotes")
        elif len(cells) != len(header):
            faults.add(
                path.name,
                f"{place(number, line)}: {len(cells)} cells where the header has {len(header)}",
                "quote a text that holds commas",
            )
        else:
            rows.append(
                Row.of(number, [cells[position] for position in positions], line, bool(expected.columns.label))
            )
    if number == 0:
        faults.add(path.name, "a header and no rows", "add rows")
    return rows


def _csv_records(text: str) -> Iterator[tuple[int, list[str] | None]]:
    """First line and cells of each record that is not blank; no cells where it is malformed."""
    bound = csv.field_size_limit(LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells: list[str] | None = next(reader)
            except StopIteration:
                return
            except csv.Error:
                cells = None
            if cells != []:
                yield line, cells
    finally:
        csv.field_size_limit(bound)


def _read_jsonl(path: Path, expected: Expected, faults: Faults) -> list[Row]:
    text = _decoded(path, faults)
    if text is None:
        return []
    objects: list[tuple[int, int, dict[str, object]]] = []
    number = 0
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        number += 1
        try:
            value = json.loads(written)
        except (ValueError, RecursionError):
            faults.add(path.name, f"{place(number, line)}: not well-formed JSON", "write one JSON object a line")
            continue
        if isinstance(value, dict):
            objects.append((number, line, value))
        else:
            faults.add(path.name, f"{place(number, line)}: not a JSON object", "write one JSON object a line")
    present = list(dict.fromkeys(key for _, _, value in objects for key in value))
    if not objects or not check_columns(path.name, present, expected, faults):
        return []
    wanted = expected.columns.wanted
    return [
        Row.of(number, [value.get(key) for key in wanted], line, bool(expected.columns.label))
        for number, line, value in objects
    ]


def _read_conll(path: Path, expected: Expected, faults: Faults) -> list[Row]:
    text = _decoded(path, faults)
    return [] if text is None else read_conll(path, text, expected, faults)


def _read_parquet(path: Path, expected: Expected, faults: Faults) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if not check_columns(path.name, file.schema_arrow.names, expected, faults):
                return []
            table = file.read(columns=list(expected.columns.wanted))
        values = [table.column(column).to_pylist() for column in expected.columns.wanted]
    except UnicodeDecodeError:
        faults.add(path.name, "a text is not UTF-8", "write its texts as UTF-8")
        return []
    except (OSError, pyarrow.ArrowException):
        faults.add(path.name, "not a readable Parquet file", "write it again")
        return []
    if not table.num_rows:
        faults.add(path.name, "columns and no rows", "add rows")
    return [
        Row.of(number, cells, labelled=bool(expected.columns.label))
        for number, cells in enumerate(zip(*values, strict=True), start=1)
    ]


def _decoded(path: Path, faults: Faults) -> str | None:
    """Content of a text file, None if there is none; notes a fault where it is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        faults.add(path.name, f"cannot be read ({error.strerror})", "check the file and its permissions")
        return None
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        faults.add(path.name, "the file is empty", "give a file with rows")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        faults.add(path.name, f"line {line}: byte {error.start} of the file is not UTF-8", "save it as UTF-8")
        return content.decode("utf-8-sig", errors="replace")


_READERS: dict[str, Callable[[Path, Expected, Faults], list[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".conll": _read_conll,
}
KINDS = tuple(_READERS)
