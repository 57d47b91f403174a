"""The list of runs: what is found, in which order, and how fast."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from common.errors import BadInput
from deploy.dashboard.runs import RunFolder
from tests.deploy.report.samples import write_run


def test_runs_and_those_of_sweeps_are_listed_the_newest_first(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old")
    write_run(tmp_path / "sweep" / "epsilon=1", "privacy.enabled=false")
    write_run(tmp_path / "live", ends=False)
    (tmp_path / "something else").mkdir()
    for name in ("study.toml", "result.json", "events.jsonl"):
        os.utime(old / name, (1e9, 1e9))
    rows = RunFolder(tmp_path).rows()
    assert {row.name for row in rows} == {"old", "live", "sweep/epsilon=1"}
    assert rows[-1].name == "old"
    found = {row.name: row for row in rows}
    assert found["live"].state == "going"
    assert found["live"].event == "site replied 3"
    assert found["old"].epsilon == pytest.approx(7.92)
    assert found["sweep/epsilon=1"].private is False


def test_a_row_follows_its_files(tmp_path: Path) -> None:
    write_run(tmp_path / "one", ends=False)
    folder = RunFolder(tmp_path)
    before = folder.signature()
    assert folder.signature() == before
    time.sleep(0.01)
    write_run(tmp_path / "two")
    assert folder.signature() != before
    assert {row.name: row.state for row in folder.rows()} == {"one": "going", "two": "finished"}


@pytest.mark.parametrize("name", ["../outside", "..", "", "/etc", "one/../one", "one/", "two"])
def test_only_runs_of_the_list_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    write_run(tmp_path / "outside")
    one = write_run(tmp_path / "in" / "one")
    folder = RunFolder(tmp_path / "in")
    assert folder.find("one") == one
    with pytest.raises(BadInput, match=r"no such run"):
        folder.find(name)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_run(tmp_path / "outside")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    assert RunFolder(tmp_path / "in").rows() == []


def test_damaged_files_leave_a_row(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one")
    (directory / "result.json").write_text("{", encoding="utf-8")
    (directory / "study.toml").write_text("[", encoding="utf-8")
    (row,) = RunFolder(tmp_path).rows()
    assert row.study == "unreadable study.toml"


def test_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such folder"):
        RunFolder(tmp_path / "runs")
