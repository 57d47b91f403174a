"""The run directory: records survive a crash in the middle of a line, and are never half replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import BadInput
from server.records import RoundRecord
from server.run_directory import RunDirectory


def record(number: int) -> RoundRecord:
    """A finished round."""
    return RoundRecord(number, "train", 1, (), None, 10, 20, {"round": 1.5})


def test_opening_creates_the_folder_and_its_checkpoints(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "runs" / "one")
    assert (tmp_path / "runs" / "one" / "checkpoints").is_dir()


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    RunDirectory(tmp_path).add_round(record(1))
    assert RunDirectory(tmp_path).rounds() == [record(1)]


def test_rounds_come_back_in_order(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.rounds() == []
    for number in (1, 2, 3):
        directory.add_round(record(number))
    assert directory.rounds() == [record(1), record(2), record(3)]


def test_a_line_cut_short_by_a_crash_is_left_out_wherever_it_was_cut(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.add_round(record(1))
    directory.add_round(record(2))
    file = tmp_path / "rounds.jsonl"
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole) - 1):
        file.write_bytes(whole[:end])
        assert directory.rounds() == [record(1)]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"round": 1}', "null"])
def test_a_line_that_is_no_record_before_the_last_is_refused(tmp_path: Path, line: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.add_round(record(1))
    with (tmp_path / "rounds.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    directory.add_round(record(3))
    with pytest.raises(BadInput, match="line 2 is not a round record"):
        directory.rounds()


def test_a_record_written_behind_a_line_cut_short_would_be_refused_so_resuming_rewrites(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.add_round(record(1))
    with (tmp_path / "rounds.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"round": 2, "pha')
    directory.keep_rounds(directory.rounds())
    directory.add_round(record(2))
    assert directory.rounds() == [record(1), record(2)]


def test_keeping_rounds_replaces_all_of_them_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory(tmp_path)
    for number in (1, 2):
        directory.add_round(record(number))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            directory.keep_rounds([record(1)])
    assert directory.rounds() == [record(1), record(2)]
    directory.keep_rounds([record(1)])
    assert directory.rounds() == [record(1)]
    directory.keep_rounds([])
    assert directory.rounds() == []


def test_the_started_round_is_remembered(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.started_round() == 0
    directory.mark_started(1)
    directory.mark_started(2)
    assert RunDirectory(tmp_path).started_round() == 2


def test_events_are_lines_of_json_with_kind_and_time(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.event("round-started", round=1)
    directory.event("site-replied", site="north", reason="")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["round-started", "site-replied"]
    assert lines[0]["round"] == 1
    assert lines[0]["time"] <= lines[1]["time"]
