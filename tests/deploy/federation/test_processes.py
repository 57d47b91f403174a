"""The supervisor, with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RunFailed
from deploy.federation import processes
from deploy.federation.processes import BackOff, ChildPlan, ProcessEvent, Supervisor

REPOSITORY = Path(__file__).resolve().parents[3]
SOON = BackOff(first=0.1, most=0.4, healthy=60.0)


def _plan(folder: Path, function: str, *arguments: str, **more: Any) -> ChildPlan:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    more = {"back_off": SOON} | more
    return ChildPlan(
        function,
        "tests.deploy.federation.children",
        function,
        arguments,
        environment,
        folder / f"{function}.log",
        **more,
    )


@contextmanager
def _running(*plans: ChildPlan) -> Iterator[list[ProcessEvent]]:
    """Run a supervisor in a thread; yield the events so far; stop it at the end, whatever happened."""
    events: list[ProcessEvent] = []
    stop = threading.Event()
    thread = threading.Thread(target=Supervisor(plans, events.append).run, args=[stop])
    thread.start()
    try:
        yield events
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def _wait(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return found


def _pids(events: list[ProcessEvent], kind: str = "ready") -> list[int]:
    return [event.pid for event in events if event.kind == kind]


def _lives(pid: int) -> bool:
    """Whether a process still runs; one that has ended but was not yet reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc").is_dir():
        try:
            return status.read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_killed_child_is_restarted_and_stopping_leaves_none(tmp_path: Path) -> None:
    with _running(_plan(tmp_path, "sleep")) as events:
        first = _wait(lambda: _pids(events))[0]
        os.kill(first, signal.SIGKILL)
        second = _wait(lambda: _pids(events)[1:])[0]
        assert first != second
        assert _lives(second)
    assert not _lives(first)
    assert not _lives(second)
    assert [event.kind for event in events] == ["started", "ready", "ended", "started", "ready", "stopped"]
    assert "signal 9" in events[2].detail


def test_a_child_that_says_goodbye_may_do_so(tmp_path: Path) -> None:
    with _running(_plan(tmp_path, "polite", str(tmp_path / "said"))):
        _wait(lambda: "ready" in _text(tmp_path / "polite.log"))
    assert _text(tmp_path / "said") == "goodbye"


def test_a_stubborn_child_and_what_it_started_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GROUP_SECONDS", 0.3)
    stubborn = _plan(tmp_path, "stubborn", str(tmp_path / "stubborn"), stop_seconds=0.3)
    parent = _plan(tmp_path, "sleep_with_child", str(tmp_path / "pids"))
    with _running(stubborn, parent):
        pids = [int(pid) for pid in _wait(lambda: _text(tmp_path / "pids")).split()]
        pids.append(int(_wait(lambda: _text(tmp_path / "stubborn"))))
        assert all(_lives(pid) for pid in pids)
    assert not any(_lives(pid) for pid in pids)


def test_a_child_that_fails_is_tried_again_ever_more_slowly(tmp_path: Path) -> None:
    with _running(_plan(tmp_path, "fail")) as events:
        _wait(lambda: len(_pids(events, "ended")) >= 4)
    ends = [event for event in events if event.kind == "ended"]
    assert all("exit code 7" in event.detail and "no such luck" in event.detail for event in ends)
    assert _text(tmp_path / "fail.log").count("no such luck") >= 4


def test_a_child_whose_function_returns_ends(tmp_path: Path) -> None:
    with _running(_plan(tmp_path, "linger")) as events:
        _wait(lambda: _pids(events, "ended"))


@given(st.integers(1, 200))
def test_waits_grow_up_to_the_most(failures: int) -> None:
    back_off = BackOff(first=1.0, most=60.0)
    assert back_off.seconds(1) == 1.0
    assert back_off.seconds(failures) <= back_off.seconds(failures + 1) <= 60.0
    assert back_off.seconds(7) == 60.0


def test_the_next_starts_when_the_one_before_is_ready(tmp_path: Path) -> None:
    done: list[str] = []
    log = tmp_path / "polite.log"
    first = _plan(
        tmp_path,
        "polite",
        str(tmp_path / "said"),
        ready=lambda: "ready" in _text(log),
        when_ready=lambda: done.append("admitted"),
    )
    with _running(first, _plan(tmp_path, "sleep")) as events:
        _wait(lambda: len(_pids(events)) == 2)
        assert [(event.child, event.kind) for event in events[:3]] == [
            ("polite", "started"),
            ("polite", "ready"),
            ("sleep", "started"),
        ]
        os.kill(events[0].pid, signal.SIGKILL)
        _wait(lambda: len(done) == 2)
    assert [event.child for event in events if event.kind == "stopped"] == ["sleep", "polite"]


def test_a_child_that_does_not_become_ready_is_started_anew(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "sleep", ready=lambda: False, ready_seconds=0.3)
    with _running(plan) as events:
        _wait(lambda: len(_pids(events, "started")) >= 2)
    assert not _pids(events, "ready")
    assert not any(_lives(event.pid) for event in events)


def test_an_error_when_ready_stops_all(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RunFailed("not admitted")

    events: list[ProcessEvent] = []
    supervisor = Supervisor(
        [_plan(tmp_path, "sleep"), _plan(tmp_path, "polite", "x", when_ready=refuse)], events.append
    )
    with pytest.raises(RunFailed, match="not admitted"):
        supervisor.run(threading.Event())
    assert not any(_lives(event.pid) for event in events)


def test_logs_are_rotated_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 50_000)
    monkeypatch.setattr(processes, "LOG_BACKUPS", 2)
    with _running(_plan(tmp_path, "chatter")):
        _wait(lambda: "said all" in _text(tmp_path / "chatter.log"))
    logs = sorted(tmp_path.glob("chatter.log*"))
    assert len(logs) == 3
    assert all(path.stat().st_size <= 50_000 for path in logs)
    assert stat.S_IMODE(logs[0].stat().st_mode) == 0o600


@pytest.mark.slow
def test_nothing_survives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "tests.deploy.federation.children", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        child, grandchild = (int(pid) for pid in _wait(lambda: _text(tmp_path / "pids")).split())
        assert _lives(child)
    finally:
        supervisor.kill()
        supervisor.wait()
    _wait(lambda: not _lives(child))
    _wait(lambda: not _lives(grandchild))
