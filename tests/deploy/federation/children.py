"""What the supervised processes of the tests do. Each is run by ``tied_process`` and stops on SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def sleep() -> None:
    """Say something, then wait."""
    _say("here")
    time.sleep(600)


def sleep_with_child() -> None:
    """As :func:`sleep`, with a process of its own that does not listen to it; the pid goes to the file named."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def stubborn() -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(sys.argv[1]).write_text(str(os.getpid()))
    while True:
        time.sleep(600)


def polite() -> None:
    """On SIGTERM write that it said goodbye."""

    def goodbye(number: int, frame: object) -> None:
        Path(sys.argv[1]).write_text("goodbye")
        sys.exit(0)

    signal.signal(signal.SIGTERM, goodbye)
    _say("ready")
    time.sleep(600)


def fail() -> None:
    """End at once, with a reason."""
    _say("no such luck")
    sys.exit(7)


def linger() -> None:
    """Return, and leave a thread behind, as a SuperNode does whose connection failed."""
    threading.Thread(target=time.sleep, args=[600]).start()


def chatter() -> None:
    """Print a lot, then wait."""
    for number in range(2000):
        _say(f"{number:06d} " + "x" * 90)
    _say("said all")
    time.sleep(600)


def supervise() -> None:
    """Supervise :func:`sleep_with_child`: a supervisor that tests can kill."""
    from deploy.federation.processes import ChildPlan, Supervisor

    folder = Path(sys.argv[1])
    plan = ChildPlan(
        "orphan", "tests.deploy.federation.children", "sleep_with_child", [str(folder / "pids")],
        dict(os.environ), folder / "orphan.log",
    )  # fmt: skip
    Supervisor([plan]).run(threading.Event())


if __name__ == "__main__":
    supervise()
