"""Found on ``PYTHONPATH``, makes a guard's wall clock wrong by as many seconds as a file says, while it says so.

Only the guard's: a gRPC client reckons its deadlines by Python's clock and waits for them by the system's.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import time_machine


def _wanted(path: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        return float(path.read_text(encoding="ascii"))
    return 0.0


def _follow(path: Path) -> None:
    pause = threading.Event()
    while True:
        wanted = _wanted(path)
        if wanted:
            with time_machine.travel(time.time() + wanted, tick=True):  # monotonic clocks are left alone
                while _wanted(path) == wanted:
                    pause.wait(0.2)
        pause.wait(0.2)


if "HANSE_TEST_CLOCK" in os.environ and "deploy.site.guard_process" in sys.orig_argv:
    threading.Thread(target=_follow, args=[Path(os.environ["HANSE_TEST_CLOCK"])], daemon=True).start()
