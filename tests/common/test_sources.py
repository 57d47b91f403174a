"""Data comes in from real files, whole and checked, or is refused in one clear line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from common.errors import BadInput
from common.sources import Columns, Dataset, Example, fingerprint, load_source

LABELS = ("negative", "positive")
GOOD_AND_BAD = (Example("good, really", 1), Example("bad", 0))


def put(folder: Path, files: Mapping[str, object]) -> None:
    """Write files: text as UTF-8, bytes as they are, a list of rows as JSONL or Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        elif path.suffix == ".parquet":
            pyarrow.parquet.write_table(content, path)
        else:
            assert isinstance(content, list)
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def refusal(source: Path | str, labels: tuple[str, ...] = LABELS, columns: Columns | None = None) -> str:
    """Message with which a source is refused."""
    with pytest.raises(BadInput) as caught:
        load_source(str(source), labels, columns or Columns())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(**columns: list[Any]) -> pyarrow.Table:
    """Columns as an Arrow table."""
    return pyarrow.table(columns)


KINDS = {
    "reviews.csv": 'text,label\n"good, really",positive\nbad,negative\n',
    "reviews.jsonl": [
        {"text": "good, really", "label": "positive"},
        {"label": "negative", "text": "bad", "note": None},
    ],
    "reviews.parquet": table(text=["good, really", "bad"], label=[1, 0]),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file_gives_the_same_data_set(tmp_path: Path, name: str) -> None:
    put(tmp_path, {name: KINDS[name]})
    dataset, report = load_source(str(tmp_path / name), LABELS)
    assert dataset == Dataset(GOOD_AND_BAD, LABELS)
    assert (report.rows, report.class_counts, report.warnings) == (2, {"negative": 1, "positive": 1}, ())
    assert fingerprint(dataset) == fingerprint(Dataset(GOOD_AND_BAD, LABELS))


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbftext,label\r\n"good, really",positive\r\nbad,negative\r\n',
        b'label , text,more\n\npositive,"good, really",1\n\nnegative,bad,2',
        b'text,label\n"good, really",1\nbad,0\n\n',
    ],
    ids=["byte order mark and CRLF", "other order, blank lines, more columns", "positions"],
)
def test_csv_as_people_write_it(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, {"reviews.csv": content})
    assert load_source(str(tmp_path / "reviews.csv"), LABELS)[0].examples == GOOD_AND_BAD


def test_columns_are_named_by_the_study(tmp_path: Path) -> None:
    put(tmp_path, {"r.csv": "review,stars,shop\ngood,positive,north\nbad,negative,south\n"})
    dataset, _ = load_source(str(tmp_path / "r.csv"), LABELS, Columns("review", "stars", "shop"))
    assert dataset.examples == (Example("good", 1, "north"), Example("bad", 0, "south"))


def test_a_folder_brings_its_ready_made_parts(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "train.csv": "text,label\ngood,positive\nbad,negative\n",
            "validation.jsonl": [{"text": "fine", "label": 1}, {"text": "poor", "label": 0}],
            "test.parquet": table(text=["good", "awful"], label=["positive", "negative"]),
            "notes.md": "not read",
        },
    )
    dataset, report = load_source(str(tmp_path), LABELS)
    assert [len(part) for part in (dataset.examples, dataset.validation, dataset.test)] == [2, 2, 2]
    assert report.rows == 6
    assert report.class_counts == {"negative": 3, "positive": 3}
    assert report.warnings == ("test.parquet: 1 rows have a text that is also in train.csv",)


def test_repeats_and_conflicts_are_warned_of(tmp_path: Path) -> None:
    put(tmp_path, {"r.csv": "text,label\nodd,positive\nodd,negative\nodd,negative\n"})
    _, report = load_source(str(tmp_path / "r.csv"), LABELS)
    assert report.warnings == (
        "r.csv: 2 rows repeat the text of an earlier row",
        "r.csv: 1 texts stand there with different labels",
    )


BAD_INPUT: dict[str, tuple[dict[str, object], str, str]] = {
    "no such file": ({}, "reviews.csv", "no such file or folder; give a path"),
    "folder without a usable file": (
        {"a/notes.txt": "x"},
        "a",
        "a: no train.csv, train.jsonl, train.parquet",
    ),
    "two train files": (
        {"a/train.csv": "text,label\n", "a/train.jsonl": ""},
        "a",
        "a: train.csv and train.jsonl both claim to be the train part; keep one",
    ),
    "other kind of file": (
        {"r.xlsx": "x"},
        "r.xlsx",
        "r.xlsx: not a kind of file that is read here; use .csv",
    ),
    "empty file": ({"r.csv": ""}, "r.csv", "r.csv: the file is empty"),
    "only a byte order mark": ({"r.jsonl": b"\xef\xbb\xbf\n"}, "r.jsonl", "r.jsonl: the file is empty"),
    "header only": ({"r.csv": "text,label\n"}, "r.csv", "r.csv: a header and no rows"),
    "Parquet without rows": (
        {"r.parquet": table(text=[], label=[])},
        "r.parquet",
        "r.parquet: columns and no rows",
    ),
    "missing column": (
        {"r.csv": "review,label\ngood,positive\n"},
        "r.csv",
        'r.csv: no column "text" among "review", "label"; set data.text_column to the column',
    ),
    "missing column in JSONL": (
        {"r.jsonl": [{"text": "good", "class": 1}]},
        "r.jsonl",
        'r.jsonl: no column "label" among "text", "class"',
    ),
    "missing column in Parquet": (
        {"r.parquet": table(text=["good"])},
        "r.parquet",
        'r.parquet: no column "label" among "text"',
    ),
    "no header": ({"r.csv": "good,positive\nbad,negative\n"}, "r.csv", "looks like data, not like a header"),
    "semicolons": ({"r.csv": "text;label\ngood;positive\n"}, "r.csv", "separate the columns by commas"),
    "column named twice": (
        {"r.csv": "text,text,label\na,b,0\n"},
        "r.csv",
        '2 columns are named "text"; keep one',
    ),
    "empty text": ({"r.csv": "text,label\n ,positive\n"}, "r.csv", "r.csv: row 1 (line 2): text is empty"),
    "missing text in JSONL": (
        {"r.jsonl": [{"text": "good", "label": 1}, {"label": 0}]},
        "r.jsonl",
        "r.jsonl: row 2 (line 2): text is missing",
    ),
    "empty text in Parquet": (
        {"r.parquet": table(text=["good", None], label=[1, 0])},
        "r.parquet",
        "r.parquet: row 2: text is missing",
    ),
    "unknown label": (
        {"r.csv": 'text,label\n"two\nlines",positive\nfair,neutral\n'},
        "r.csv",
        'r.csv: row 2 (line 4): label = "neutral": not one of negative, positive',
    ),
    "position out of range": ({"r.csv": "text,label\ngood,2\n"}, "r.csv", 'label = "2": not one of'),
    "names and positions mixed": ({"r.csv": "text,label\ngood,1\nbad,negative\n"}, "r.csv", "mixes names"),
    "not UTF-8": (
        {"r.csv": b"text,label\nfine,positive\ncaf\xe9,positive\n"},
        "r.csv",
        "r.csv: line 3: byte 28 of the file is not UTF-8; save it as UTF-8",
    ),
    "not UTF-8 in JSONL": (
        {"r.jsonl": b'{"text": "caf\xe9", "label": 1}\n'},
        "r.jsonl",
        "r.jsonl: line 1: byte 13 of the file is not UTF-8",
    ),
    "UTF-16": (
        {"r.csv": "text,label\ngood,positive\n".encode("utf-16")},
        "r.csv",
        "byte 0 of the file is not UTF-8",
    ),
    "quote never closed": (
        {"r.csv": 'text,label\ngood,positive\n"bad,negative\n'},
        "r.csv",
        "r.csv: row 2 (line 3): not well-formed CSV; check its quotes",
    ),
    "header never closed": ({"r.csv": '"text,label\n'}, "r.csv", "r.csv: the header is not well-formed CSV"),
    "too many cells": (
        {"r.csv": "text,label\ngood, really,positive\n"},
        "r.csv",
        "r.csv: row 1 (line 2): 3 cells where the header has 2; quote a text that holds commas",
    ),
    "too few cells": ({"r.csv": "text,label\ngood\n"}, "r.csv", "1 cells where the header has 2"),
    "malformed JSON": (
        {"r.jsonl": '{"text": "good", "label": 1}\n{"text": "bad"\n'},
        "r.jsonl",
        "r.jsonl: row 2 (line 2): not well-formed JSON; write one JSON object a line",
    ),
    "JSON but no object": ({"r.jsonl": "[1]\n"}, "r.jsonl", "r.jsonl: row 1 (line 1): not a JSON object"),
    "JSON nested without end": ({"r.jsonl": "[" * 100_000}, "r.jsonl", "not well-formed JSON"),
    "half a character": ({"r.jsonl": '{"text": "\\ud83d", "label": 1}\n'}, "r.jsonl", "a lone surrogate"),
    "not Parquet": ({"r.parquet": "text,label\n"}, "r.parquet", "r.parquet: not a readable Parquet file"),
    "misspelt hub source": (
        {},
        "hub:imdb",
        'data.source = "hub:imdb": not of the form hub:owner/name[@revision]',
    ),
    "missing partition": (
        {"r.csv": "text,label\ngood,1\n"},
        "r.csv",
        'r.csv: no column "shop" among "text", "label"; set data.column to the column',
    ),
    "missing person": (
        {"r.jsonl": [{"text": "good", "label": 1, "shop": "north"}]},
        "r.jsonl",
        'no column "person" among "text", "label", "shop"; set privacy.group_column to the column',
    ),
    "no source": ({}, "", 'data.source = "": no such file or folder'),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    files, source, message = BAD_INPUT[case]
    for name, content in files.items():
        put((tmp_path / name).parent, {Path(name).name: content})
    monkeypatch.chdir(tmp_path)
    columns = Columns(
        partition="shop" if case in ("missing partition", "missing person") else "",
        group="person" if case == "missing person" else "",
    )
    assert message in refusal(source, columns=columns)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", "text,label,person\ngood,1,7\nbad,0,\nfine,1, \n"),
        ("r.jsonl", [{"text": "good", "label": 1, "person": 7}, {"text": "bad", "label": 0}] * 2),
        ("r.parquet", table(text=["good", "bad"], label=[1, 0], person=[7, None])),
    ],
)
def test_p02_a_row_without_a_person_is_refused_from_any_file(tmp_path: Path, name: str, content: object) -> None:
    """The id is kept where it is there, and a row that has none is named by its number."""
    put(tmp_path, {name: content})
    message = refusal(tmp_path / name, columns=Columns(group="person"))
    assert re.match(re.escape(name) + r": row 2( \(line 3\)| \(line 2\))?: person names no person", message)
    assert "row 1" not in message


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_kind_of_file_gives_the_same_persons(tmp_path: Path, kind: str) -> None:
    rows = [{"text": "good", "label": 1, "shop": "north", "person": 7}]
    contents = {
        "csv": "person,text,shop,label\n7,good,north,1\n",
        "jsonl": rows,
        "parquet": pyarrow.Table.from_pylist(rows),
    }
    put(tmp_path, {f"r.{kind}": contents[kind]})
    for columns in (Columns(group="person"), Columns(partition="shop", group="person")):
        dataset, _ = load_source(str(tmp_path / f"r.{kind}"), LABELS, columns)
        assert dataset.examples == (Example("good", 1, "north" if columns.partition else "", "7"),)


def test_p10_a_person_in_two_ready_made_parts_is_refused(tmp_path: Path) -> None:
    """A person lies whole in one part; how many there are is told, never who."""
    header = "text,label,person\n"
    put(tmp_path, {"train.csv": header + "a,1,Jane\nb,0,John\n", "test.csv": header + "c,1,Jane\nd,0,Jack\n"})
    message = refusal(tmp_path, columns=Columns(group="person"))
    assert message == "test.csv: 1 persons are also in train.csv; keep each person in one file"
    put(tmp_path, {"test.csv": header + "c,1,Jack\n", "validation.csv": header + "d,1,Jack\ne,1,John\n"})
    message = refusal(tmp_path, columns=Columns(group="person"))
    assert message.count("1 persons are also in") == 2
    assert load_source(str(tmp_path), LABELS)[1].rows == 5


def test_the_embedded_sentences_name_no_persons() -> None:
    message = refusal("embedded", columns=Columns(group="person"))
    assert message.startswith('privacy.group_column = "person": the embedded sentences name no persons')


def test_faults_of_all_parts_are_told_together(tmp_path: Path) -> None:
    put(tmp_path, {"train.csv": "text,label\n,positive\ngood,fine\n", "test.csv": "text,label\ngood\n"})
    message = refusal(tmp_path)
    assert message.startswith("test.csv: row 1 (line 2): 1 cells") or message.startswith("train.csv: row 1")
    assert "row 1 (line 2): text is empty" in message
    assert 'row 2 (line 3): label = "fine"' in message
    assert "row 1 (line 2): 1 cells where the header has 2" in message


SECRET = "the patient from room nine"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", f"{SECRET},hers\n{SECRET},his\n"),
        ("r.csv", f"label,text\n{SECRET},positive\n"),
        ("r.csv", f'text,label\n"{SECRET}" x,positive\n{SECRET},{SECRET},{SECRET}\n'),
        ("r.csv", f"text,label\n{SECRET},maybe\n".encode() + b"\xff"),
        ("r.jsonl", f'{{"text": "{SECRET}\n"{SECRET}"\n'),
        ("r.jsonl", [{SECRET: 1}]),
        ("r.jsonl", [{"text": [SECRET], "label": {"a": SECRET}}]),
        ("r.parquet", table(text=[SECRET.encode()], label=[SECRET])),
    ],
)
def test_p15_no_message_carries_a_text(tmp_path: Path, name: str, content: object) -> None:
    put(tmp_path, {name: content})
    message = refusal(tmp_path / name)
    assert not any(word in message for word in SECRET.split()[1:])


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "no train.csv" in refusal(folder)


@pytest.mark.parametrize("labels", [("one",), ("one", "one"), ()])
def test_labels_are_at_least_two_and_differ(labels: tuple[str, ...]) -> None:
    assert "task.labels" in refusal("r.csv", labels)


@pytest.mark.parametrize(
    "columns",
    [
        Columns("text", "text"), Columns("", "label"), Columns(partition="text"), Columns(group="label"),
        Columns(partition="shop", group="shop"),
    ],
)  # fmt: skip
def test_columns_differ(columns: Columns) -> None:
    assert "text, label, partition and person must be different columns" in refusal("r.csv", columns=columns)


def test_a_long_document_is_no_fault(tmp_path: Path) -> None:
    """The standard library alone would refuse a cell of more than 131,072 characters."""
    put(tmp_path, {"r.csv": f"text,label\n{'long ' * 100_000},positive\nbad,negative\n"})
    assert len(load_source(str(tmp_path / "r.csv"), LABELS)[0].examples[0].text) == 500_000


def test_importing_sources_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "pandas", "datasets", "pyarrow", "numpy"]
    program = f"import sys, common.sources; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
