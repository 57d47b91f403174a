"""A process that keeps freed memory takes it again without asking the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from client.memory_reuse import keep_freed_memory

_CHILD = """
import ctypes, sys
from client.memory_reuse import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
blocks = [library.malloc(ctypes.c_size_t(20 * 2**20)) for _ in range(10)]
for block in blocks:
    ctypes.memset(block, 1, 20 * 2**20)
for block in blocks:
    library.free(ctypes.c_void_p(block))
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * 4096 // 2**20)
"""


def held(how: str) -> int:
    """MiB that a process holds after it took and freed ten blocks of 20."""
    ended = subprocess.run([sys.executable, "-c", _CHILD, how], check=True, capture_output=True, text=True)
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GNU's allocator alone has these settings")
def test_memory_that_was_freed_is_kept() -> None:
    """Without the settings the system has it back, which shows that the test can tell."""
    assert held("keep") > held("as it is") + 180


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
