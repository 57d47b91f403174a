"""Files are there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.files import append_line, atomically, write_json, write_text


class Interrupted(Exception):
    """Stands for any failure in the middle of writing."""


def write_half(path: Path) -> None:
    before = path.read_bytes() if path.exists() else None
    with atomically(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert (path.read_bytes() if path.exists() else None) == before
        raise Interrupted


def test_a_new_file_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "höchst\n")
    assert (tmp_path / "a.txt").read_bytes() == "höchst\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208 - hidden files count


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(Interrupted):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_before_the_first_version_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        write_half(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"b": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": 1}


def test_content_is_synced_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut the name points at the old content or the new, never at an empty file."""
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        events.append("sync")
        sync(handle)

    def replaced(self: Path, target: Path) -> Path:
        events.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_text(tmp_path / "a.txt", "new")
    assert events[:2] == ["sync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_p22_files_are_their_owners_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("durable", [True, False])
def test_lines_are_appended_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "log.jsonl"
    for number in range(3):
        append_line(path, {"number": number, "text": "line\nbreak"}, durable)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize("torn", ["", '{"cut', '{"whole": 1}\n{"cut', '{"whole": 1}\n'])
def test_a_line_that_a_crash_cut_short_takes_no_later_line_with_it(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(torn)
    append_line(path, {"next": 2})
    kept = ['{"whole": 1}'] if "whole" in torn else []
    assert path.read_text().splitlines() == [*kept, '{"next": 2}']
