"""Keeps a few long-lived processes running: started in order, restarted with back-off, stopped in reverse.

Each child runs a Python function by :mod:`deploy.federation.tied_process`, in its own process group, so that

- Ctrl-C reaches the supervisor alone, which then stops the children one by one;
- nothing of a child's group outlives the child, nor the child its supervisor, even one that was killed;
- all that it prints goes to its own log file, which is rotated.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final

from common.errors import RunFailed
from deploy.federation import tied_process

__all__ = ["BackOff", "ChildPlan", "ProcessEvent", "Supervisor"]

LOG_BYTES: Final = 5_000_000
LOG_BACKUPS: Final = 5
"""Older log files kept beside the newest."""

_POLL_SECONDS: Final = 0.1
_GROUP_SECONDS: Final = 5.0
"""How long the processes that a child started may take to follow it before they are killed."""
_LINES_KEPT: Final = 20
_PYTHON: Final = (sys.executable, "-P")


@dataclass(frozen=True)
class BackOff:
    """How long to wait before a child that ended is started again."""

    first: float = 1.0
    """Seconds before the first restart; doubled for each further one."""
    most: float = 60.0
    healthy: float = 60.0
    """A child that ran this long counts as well: the next wait is the first again."""

    def seconds(self, failures: int) -> float:
        """The wait after ``failures`` short lives in a row, at least 1."""
        return float(min(self.most, self.first * 2.0 ** min(failures - 1, 30)))


@dataclass(frozen=True)
class ChildPlan:
    """One process to keep running.

    Attributes:
        name: what people call it; the log file's name too.
        module: module of the function that it runs.
        function: the function, called without arguments; it reads ``sys.argv``.
        arguments: its command line.
        environment: the whole environment.
        log: file that its output is appended to, in an existing folder.
        ready: whether it can be used; asked until it says so. None: at once.
        when_ready: called after each start, once it is ready. What it raises stops the supervisor.
        ready_seconds: how long it may take to become ready before it is started anew.
        stop_seconds: how long it may take to stop before it is killed.
        back_off: how restarts are spaced.
        prefix: a program that becomes this one, with its arguments, as one that confines it.

    """

    name: str
    module: str
    function: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool] | None = None
    when_ready: Callable[[], None] | None = None
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0
    back_off: BackOff = field(default_factory=BackOff)
    prefix: Sequence[str] = ()


@dataclass(frozen=True)
class ProcessEvent:
    """Something that happened to a child, for the operator."""

    child: str
    kind: str
    """``started``, ``ready``, ``ended`` (by itself), or ``stopped`` (because it was told to)."""
    detail: str = ""
    """Of an end: the exit code, the wait before the restart, and the last lines that it printed."""
    pid: int = 0


class Supervisor:
    """Runs the children of a plan until it is told to stop."""

    def __init__(self, plans: Sequence[ChildPlan], tell: Callable[[ProcessEvent], None] | None = None) -> None:
        """Plan ``plans``, to be started in this order; ``tell`` hears of every event, in the caller's thread."""
        self._children = [_Child(plan, tell or (lambda event: None)) for plan in plans]

    def run(self, stop: threading.Event) -> None:
        """Start all, keep them running until ``stop`` is set, then stop all. Nothing is left when it returns."""
        try:
            while not stop.is_set():
                for child in self._children:
                    if stop.is_set() or not child.keep_running(stop):
                        break  # what comes after needs it
                stop.wait(_POLL_SECONDS)
        finally:
            for child in reversed(self._children):
                child.stop()


class _Child:
    def __init__(self, plan: ChildPlan, tell: Callable[[ProcessEvent], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._output: _Output | None = None
        self._started = 0.0
        self._failures = 0
        self._start_at = 0.0

    def keep_running(self, stop: threading.Event) -> bool:
        """Start it if it is due; return whether it runs and is ready."""
        if self._process is not None and self._process.poll() is None:
            return True
        if self._process is not None:
            self._note_end()
        if time.monotonic() < self._start_at:
            return False
        self._start()
        return self._become_ready(stop)

    def stop(self) -> None:
        """Ask it to stop, and kill what is left of its group when its time is up."""
        if self._process is None:
            return
        pid = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._plan.stop_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear()
        self._tell(ProcessEvent(self._plan.name, "stopped", pid=pid))

    def _start(self) -> None:
        plan = self._plan
        self._output = _Output(plan.log)
        self._process = subprocess.Popen(
            [*plan.prefix, *_PYTHON, tied_process.__file__, plan.module, plan.function, *plan.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(plan.environment),
            cwd=plan.log.parent,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output.follow(self._process.stdout)
        self._started = time.monotonic()
        self._tell(ProcessEvent(plan.name, "started", pid=self._process.pid))

    def _become_ready(self, stop: threading.Event) -> bool:
        plan, process = self._plan, self._process
        assert process is not None
        while plan.ready is not None and not plan.ready():
            if process.poll() is not None or stop.is_set():
                return False
            if time.monotonic() - self._started > plan.ready_seconds:
                process.kill()
                process.wait()
                return False
            stop.wait(_POLL_SECONDS)
        if plan.when_ready is not None:
            plan.when_ready()
        self._tell(ProcessEvent(plan.name, "ready", pid=process.pid))
        return True

    def _note_end(self) -> None:
        assert self._process is not None
        assert self._output is not None
        pid, code, lived = self._process.pid, self._process.returncode, time.monotonic() - self._started
        self._clear()
        self._failures = 1 if lived >= self._plan.back_off.healthy else self._failures + 1
        wait = self._plan.back_off.seconds(self._failures)
        self._start_at = time.monotonic() + wait
        said = "\n".join(self._output.last_lines)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._tell(ProcessEvent(self._plan.name, "ended", f"{how}; again in {wait:.0f} s\n{said}".strip(), pid))

    def _clear(self) -> None:
        """Kill whoever is left in its group, and let its output end."""
        process, output = self._process, self._output
        assert process is not None
        assert output is not None
        process.wait()
        _end_group(process.pid)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        output.end()
        self._process = None


def _end_group(group: int) -> None:
    """Give what a child started time to notice its end (a ServerApp reports it), then kill the rest."""
    if not hasattr(os, "killpg"):
        return
    deadline = time.monotonic() + _GROUP_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left (macOS: the second)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(_POLL_SECONDS)
        os.killpg(group, signal.SIGKILL)


class _Output:
    """Copies what a child prints to its rotated log, and remembers the last lines."""

    def __init__(self, log: Path) -> None:
        self.last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        try:
            self._handler = _PrivateLog(log, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
        except OSError as error:
            raise RunFailed(f"{log}: cannot be written ({error.strerror})") from error
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes]) -> None:
        self._thread = threading.Thread(target=self._copy, args=[stream], daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for the last lines; a grandchild that holds the pipe open is not waited for."""
        assert self._thread is not None
        self._thread.join(timeout=1.0)

    def _copy(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                self.last_lines.append(line)
                self._handler.handle(logging.LogRecord("", logging.INFO, "", 0, "%s", (line,), None))
        self._handler.close()


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A rotated log whose files are all made for their owner alone."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding)
