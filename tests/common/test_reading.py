"""Rows keep their numbers and their lines, whatever lies between them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.examples import Columns
from common.reading import KINDS, check_columns, read_file
from common.validation import Expected, Faults

EXPECTED = Expected(("negative", "positive"), Columns())

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1)


def test_the_kinds_of_file() -> None:
    assert KINDS == (".csv", ".jsonl", ".parquet", ".conll")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_what_the_csv_writer_wrote_comes_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    path = tmp_path / "rows.csv"
    path.write_bytes(written.getvalue().encode())
    faults = Faults()
    found = read_file(path, EXPECTED, faults)
    assert [(row.text, row.label) for row in found] == rows
    assert [row.number for row in found] == list(range(1, len(rows) + 1))
    assert not len(faults)


def test_lines_are_physical_and_rows_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n\n"two\nlines",a\n"x"y,b\nlast,c\n')
    faults = Faults()
    found = read_file(path, EXPECTED, faults)
    assert [(row.number, row.line, row.label) for row in found] == [(1, 3, "a"), (3, 6, "c")]
    assert len(faults) == 1


def test_jsonl_lines_end_at_a_line_feed_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "one\u2028two", "label": 0}\r\n\n{"text": "b", "label": 1}'.encode())
    faults = Faults()
    found = read_file(path, EXPECTED, faults)
    assert [(row.number, row.line) for row in found] == [(1, 1), (2, 3)]
    assert found[0].text == "one\u2028two"
    assert not len(faults)


def test_the_bound_on_csv_cells_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,b\n")
    read_file(path, EXPECTED, Faults())
    assert csv.field_size_limit() == before


def test_many_columns_are_not_all_listed() -> None:
    faults = Faults()
    assert not check_columns("wide.csv", [f"c{number}" for number in range(40)], EXPECTED, faults)
    with pytest.raises(Exception, match=r'"c11" and 28 more'):
        faults.refuse()


def test_a_column_may_bear_the_name_of_a_label() -> None:
    assert check_columns("wide.csv", ["text", "label", "positive"], EXPECTED, Faults())
