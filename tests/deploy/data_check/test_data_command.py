"""`hanse data check` tells the operator what is wrong, by row; no text shows and nothing leaves."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from common.errors import BadInput
from deploy.commands.data import app
from deploy.data_check.label_noise import out_of_fold, word_features
from tests.tiny import tiny_rows


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *(str(argument) for argument in arguments)])


def written(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def report(*arguments: object) -> dict[str, Any]:
    ended = invoke(*arguments, "--json")
    assert ended.exit_code == 0, (ended.output, ended.exception)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture
def noisy(tmp_path: Path) -> tuple[Path, set[int]]:
    """300 rows, of which 12 have the wrong label; their numbers."""
    rows = [(text, label) for text, label, _ in tiny_rows(300, seed=61)]
    turned = {10 * n + 5 for n in range(1, 13)}
    for number in turned:
        text, label = rows[number - 1]
        rows[number - 1] = (text, "negative" if label == "positive" else "positive")
    return written(tmp_path / "rows.csv", rows), turned


@pytest.mark.parametrize("features", ["words", "encoder"])
def test_turned_labels_are_suspected(noisy: tuple[Path, set[int]], features: str, tiny_base: Path) -> None:
    """Of ten rows named by chance 0.4 would be turned ones; the random tiny encoder knows little of words."""
    path, turned = noisy
    found = report(path, "--features", features, "--base", tiny_base)["suspected"]
    assert len(set(found["first"]) & turned) >= (8 if features == "words" else 5)
    assert 8 <= found["count"] <= (30 if features == "words" else 60)


def test_probabilities_are_of_models_that_have_not_seen_the_row() -> None:
    """With labels by chance a model that saw the row would remember it; out of fold nothing can be known.

    False alarm: 400 coin flips, 0.6 is four standard deviations, about 3e-5.
    """
    texts = [f"only{n} word{n}" for n in range(400)]
    labels = np.random.default_rng(0).integers(2, size=400)
    given = out_of_fold(word_features(texts), labels, seed=0)
    assert (given.argmax(axis=1) == labels).mean() < 0.6


def test_repeats_and_contradictions_are_told_by_row(tmp_path: Path) -> None:
    rows = [(f"{text} and number {n}", label) for n, (text, label, _) in enumerate(tiny_rows(30))]
    rows += [(rows[0][0].upper(), "positive"), (rows[0][0], "negative"), (rows[1][0], rows[1][1])]
    found = report(written(tmp_path / "rows.csv", rows), "--features", "none")
    assert found["duplicates"] == {
        "groups": 2,
        "rows": {"count": 3, "first": [31, 32, 33]},
        "with_other_labels": 1,
    }
    assert "P10" in found["statement"]
    assert "new version of the dataset" in found["statement"]


def test_faults_are_told_as_training_would_tell_them(tmp_path: Path) -> None:
    rows = [("good film", "positive"), ("", "positive"), ("bad film", "negative"), ("dull", "negativ")]
    path = written(tmp_path / "rows.csv", rows)
    found = report(path, "--features", "none", "--labels", "negative,positive")
    assert (found["rows"], found["usable"], found["faults"]) == (4, 2, 2)
    assert "row 2" in found["told"]
    assert 'did you mean "negative"' in found["told"]
    assert found["labels"] == {"negative": 1, "positive": 1}


def test_p15_no_text_shows_nothing_is_written_and_no_connection_is_made(
    noisy: tuple[Path, set[int]], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = noisy
    secret = "Secretword jane@example.org of it of it"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"{secret},positive\n{secret},negative\n")
    before = sorted(path.parent.rglob("*"))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for arguments in ((path,), (path, "--json")):
        ended = invoke(*arguments, "--base", tiny_base)
        assert ended.exit_code == 0, (ended.output, ended.exception)
        assert "e-mail address" in ended.output
        assert "ecretword" not in ended.output
        assert "jane" not in ended.output
    assert sorted(path.parent.rglob("*")) == before


def test_p15_a_hub_model_is_refused_since_nothing_may_be_fetched(noisy: tuple[Path, set[int]]) -> None:
    ended = invoke(noisy[0], "--base", "owner/name@0123456789abcdef")
    assert isinstance(ended.exception, BadInput)
    assert "fetches nothing" in str(ended.exception)


def test_persons_are_counted(tmp_path: Path) -> None:
    rows = [("a good film", "positive", "p1"), ("the bad film", "negative", "p1"), ("so dull", "negative", "p2")]
    path = written(tmp_path / "rows.csv", rows, ("text", "label", "person"))
    found = report(path, "--features", "none", "--group-column", "person")
    assert found["most_rows_of_a_person"] == 2
    assert report(path, "--features", "none")["most_rows_of_a_person"] is None


def test_few_rows_say_nothing_of_label_noise(tmp_path: Path) -> None:
    found = report(written(tmp_path / "rows.csv", [("good film", "a"), ("bad film", "b")]), "--features", "words")
    assert found["suspected"] is None
    assert "10 rows each" in found["not_looked_at"]


def test_people_get_a_table(noisy: tuple[Path, set[int]]) -> None:
    ended = invoke(noisy[0], "--features", "words")
    assert ended.exit_code == 0, ended.output
    for part in ("usable for training", "label may be wrong", "language", "words: ", "Nothing was changed"):
        assert part in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nowhere.csv",), "nowhere.csv: no such file"),
        (("FILE", "--labels", "one"), "--labels one: give at least two"),
        (("FILE", "--features", "magic"), "--features magic"),
        (("FILE", "--label-column", "text2"), 'no column "text2"'),
    ],
)
def test_bad_input_is_refused_in_one_line(
    noisy: tuple[Path, set[int]], arguments: tuple[str, ...], what: str
) -> None:
    ended = invoke(*(noisy[0] if each == "FILE" else each for each in arguments))
    assert isinstance(ended.exception, BadInput)
    assert what in str(ended.exception)
