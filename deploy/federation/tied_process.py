"""Runs a Python command's own function in a process that ends when its supervisor does.

``python -P tied_process.py MODULE FUNCTION [ARGUMENT ...]`` calls the function with these arguments as
``sys.argv``. The supervisor holds this process's standard input open. When it ends, however the supervisor
ended, the process asks itself to stop (SIGTERM), and after a while its whole process group is killed. When the
function returns, the process ends, whatever its threads are doing.

Run as a script, and on its own: it imports nothing of Hanse.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback

__all__ = ["ORPHAN_GRACE_SECONDS"]

ORPHAN_GRACE_SECONDS = 10.0
"""How long an orphan may take to say goodbye to the network."""

_KILL_GROUP = "import os, sys, time; time.sleep(float(sys.argv[1])); os.killpg(os.getpgrp(), 9)"


def _end_with_supervisor() -> None:
    # Not sys.stdin: a thread that blocks in its buffer holds the lock that the interpreter wants at its end.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    if os.name == "nt":
        os._exit(1)
    # Another process in this group, for this one may be gone long before what it started.
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _KILL_GROUP, str(ORPHAN_GRACE_SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    module, function, *arguments = sys.argv[1:]
    os.umask(0o077)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    sys.argv = [function, *arguments]
    try:
        code = getattr(importlib.import_module(module), function)() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            traceback.print_exception(error)
    except BaseException:  # noqa: BLE001  the outermost frame of a process
        traceback.print_exc()
        code = 1
    # Not by returning: a SuperNode whose connection failed leaves a thread behind that would keep it for ever.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
