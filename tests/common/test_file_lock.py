"""One process at a time, for as long as it lives."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.file_lock import locked

_HOLD = """
import sys
from pathlib import Path
from common.file_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it is killed."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_that_is_held_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    other = holder(tmp_path / "lock")
    try:
        started = time.monotonic()
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", patience=0.5):
            pytest.fail("two hold it")
        assert time.monotonic() - started >= 0.5
    finally:
        other.kill()
        other.wait(30)
    with locked(tmp_path / "lock", patience=0.0):  # who died holds nothing
        pass


def test_the_file_is_its_owners_alone_and_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock", patience=0.0):
            raise ZeroDivisionError
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) & 0o077 == 0
