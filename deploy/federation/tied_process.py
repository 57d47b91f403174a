"""Runs a Python command's own function in a process that ends when its supervisor does.

``python -P tied_process.py MODULE FUNCTION [ARGUMENT ...]`` calls the function with these arguments as
``sys.argv``. The supervisor holds this process's standard input open. When it ends, however the supervisor
ended, the process asks itself to stop (SIGTERM), and after a while kills its process group.

Run as a script, and on its own: it imports nothing of Hanse.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time

__all__ = ["ORPHAN_GRACE_SECONDS"]

ORPHAN_GRACE_SECONDS = 10.0
"""How long an orphan may take to say goodbye to the network."""


def _end_with_supervisor() -> None:
    # Not sys.stdin: a thread that blocks in its buffer holds the lock that the interpreter wants at its end.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_SECONDS)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _main() -> None:
    module, function, *arguments = sys.argv[1:]
    os.umask(0o077)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    sys.argv = [function, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    _main()
