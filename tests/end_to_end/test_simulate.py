"""`hanse simulate` in real processes: interrupted, killed, resumed; nothing is lost and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from server.checkpoint import load_checkpoint
from server.run_directory import RunDirectory
from tests.tiny import tiny_study_text

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes in /proc"),
]


@pytest.fixture(scope="module")
def study(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a tiny study whose rounds last long enough to be interrupted."""
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(tiny_study_text(tiny_base, tiny_data), encoding="utf-8")
    return path


LONG = (
    "--set",
    "model.warm_start_steps=0",
    "--set",
    "federation.rounds=3",
    "--set",
    "federation.steps_per_round=60",
)
PLAIN = ("--set", "privacy.enabled=false")


def command(*arguments: str) -> list[str]:
    """The real command."""
    return [sys.executable, "-m", "deploy.cli", "simulate", *arguments]


def environment() -> dict[str, str]:
    """The environment of the real command: this checkout's rooms."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def ran(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The command at work; killed at the end if it still is."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], directory: Path, event: str, round_number: int) -> None:
    """Wait until the run tells that event of that round."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for line in _lines(directory / "events.jsonl"):
            if line["event"] == event and line.get("round") == round_number:
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail(f"{event} of round {round_number} did not happen")


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def descendants(pid: int) -> set[int]:
    """Every process below ``pid``."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return found


def running_still(pids: set[int]) -> set[int]:
    """Those of the processes that have not ended after half a minute."""
    deadline = time.monotonic() + 30
    while True:
        left = {pid for pid in pids if _runs(pid)}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def result_of(directory: Path) -> dict[str, Any]:
    """The run's result."""
    found: dict[str, Any] = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    return found


def test_interrupted_without_privacy_and_resumed_is_the_uninterrupted_run_to_the_bit(
    study: Path, tmp_path: Path
) -> None:
    whole = ran(str(study), *LONG, *PLAIN, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "NOT private" in whole.stdout
    assert "accuracy" in whole.stdout
    with running(str(study), *LONG, *PLAIN, "--out", "cut", cwd=tmp_path) as process:
        wait_for(process, tmp_path / "cut", "round-started", 2)
        workers = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Continue with: hanse simulate --resume cut" in stderr
    assert "Traceback" not in stderr
    assert len(workers) >= 2
    assert not running_still(workers)
    assert not (tmp_path / "cut" / "result.json").exists()
    assert load_checkpoint(RunDirectory(tmp_path / "cut").checkpoint).round < 3
    resumed = ran("--resume", "cut", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["rounds"] == 3
    one, other = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other
    assert result_of(tmp_path / "whole")["test"] == result_of(tmp_path / "cut")["test"]


def test_p07_p09_an_interrupted_private_round_is_consumed_and_the_total_stays_within_the_budget(
    study: Path, tmp_path: Path
) -> None:
    with running(str(study), *LONG, "--out", "run", cwd=tmp_path) as process:
        wait_for(process, tmp_path / "run", "round-started", 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    directory = RunDirectory(tmp_path / "run")
    finished, begun = load_checkpoint(directory.checkpoint).round, directory.started_round()
    assert (finished, begun) == (1, 2)
    resumed = ran("--resume", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "round 2 was interrupted: counted as spent, not repeated" in resumed.stdout
    result, records = result_of(tmp_path / "run"), directory.rounds()
    assert result["rounds_consumed"] == [2]
    assert [[site.replied for site in record.sites] for record in records] == [[True] * 4, [False] * 4, [True] * 4]
    asked = [
        line["round"] for line in _lines(tmp_path / "run" / "events.jsonl") if line["event"] == "round-started"
    ]
    assert asked == [1, 2, 3]  # round 2 was never asked for again
    for number, site in enumerate(result["sites"]):
        path = [record.sites[number].epsilon for record in records]
        assert all(a is not None and b is not None and a < b for a, b in pairwise(path))
        assert path[-1] == site["epsilon"]
        assert 7.8 < site["epsilon"] <= site["epsilon_budget"] == 8.0


def test_a_killed_coordinator_leaves_no_process_and_a_run_that_can_be_resumed(study: Path, tmp_path: Path) -> None:
    with running(str(study), *LONG, *PLAIN, "--out", "run", cwd=tmp_path) as process:
        wait_for(process, tmp_path / "run", "round-started", 2)
        workers = descendants(process.pid)
        process.kill()
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(workers) >= 2
    assert not running_still(workers)
    resumed = ran("--resume", "run", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert result_of(tmp_path / "run")["rounds"] == 3


def test_a_killed_worker_ends_the_run_with_one_line_and_no_process_left(study: Path, tmp_path: Path) -> None:
    with running(str(study), *LONG, *PLAIN, "--out", "run", cwd=tmp_path) as process:
        wait_for(process, tmp_path / "run", "round-started", 2)
        workers = {pid for pid in descendants(process.pid) if not descendants(pid)} - _helpers(process.pid)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        others = descendants(process.pid)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "hanse: a worker process ended unexpectedly" in stderr
    assert not running_still(others)
    last = _lines(tmp_path / "run" / "events.jsonl")[-1]
    assert last["event"] == "failed"


def _helpers(pid: int) -> set[int]:
    """The resource tracker and other direct children that are no workers (these are the fork server's)."""
    return {child for child in descendants(pid) if _parent(child) == pid}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
