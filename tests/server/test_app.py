"""The server keeps a run's folder to itself while it works in it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from common.errors import BadInput, RunFailed
from common.study import Study
from server import app as server_app

_HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Another:
    """A process that holds the run directory's lock until it is told to end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", _HOLD, str(folder / ".lock")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)


def run(study: Study, folder: Path) -> None:
    config = {"study": study.to_json(), "directory": str(folder), "resume": False}
    server_app.main(object(), Context(1, 1, {}, RecordDict(), config))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were let in."""
    runs: list[str] = []

    def note(study: Study, *arguments: Any, **named: Any) -> None:
        runs.append(study.study.name)

    monkeypatch.setattr(server_app, "run_study", note)
    return runs


def test_a_folder_in_use_is_refused_and_left_as_it_was(
    tmp_path: Path, tiny_study: Study, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "_PATIENCE", 0.5)
    other = Another(tmp_path / "run")
    try:
        with pytest.raises(RunFailed, match="another process runs this study there"):
            run(tiny_study, tmp_path / "run")
    finally:
        other.end()
    assert ran == []
    assert not (tmp_path / "run" / "events.jsonl").exists()
    run(tiny_study, tmp_path / "run")  # a process that died holds nothing
    assert ran == ["tiny"]


def test_a_folder_that_comes_free_in_time_is_used(tmp_path: Path, tiny_study: Study, ran: list[str]) -> None:
    other = Another(tmp_path / "run")
    timer = threading.Timer(0.5, other.end)
    timer.start()
    run(tiny_study, tmp_path / "run")
    timer.join()
    assert ran == ["tiny"]


def test_a_failure_is_told_in_the_folder_and_leaves_it_free(
    tmp_path: Path, tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise BadInput("no data")

    monkeypatch.setattr(server_app, "run_study", fail)
    monkeypatch.setattr(server_app, "_PATIENCE", 0.5)
    for _ in range(2):
        with pytest.raises(BadInput, match="no data"):
            run(tiny_study, tmp_path / "run")
    assert (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").count("no data") == 2
