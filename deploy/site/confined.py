"""Starts a program that can open no file but those it was given, on Linux by Landlock.

``python -P confined.py CONFINEMENT PROGRAM [ARGUMENT ...]`` confines itself and becomes the program. CONFINEMENT
is JSON: ``{"read": [...], "write": [...]}``, existing paths; what is below them may be read and run, or also
written. The rest of the file system stays shut for the program and all that it starts, whoever owns the files: it
cannot be undone, not by root either. Nor can they trace a process outside, or signal one (Linux 6.12).

Run as a script, on its own: it imports nothing of Hanse. See ``userspace-api/landlock`` in Linux' documentation.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys

__all__ = ["landlock_version"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICES = 1 << 14, 1 << 15
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many there are by version; 16 from the fifth on
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICES
_SCOPES = 3  # abstract sockets and signals


def landlock_version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, _VERSION)))


def _confine(read: list[str], write: list[str], version: int) -> None:
    system = ctypes.CDLL(None, use_errno=True)
    handled = (1 << _RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _checked(system.syscall(_CREATE, attributes, size, 0))
    for paths, rights in ((read, _EXECUTE | _READ_FILE | _READ_FOLDER), (write, handled)):
        for path in paths:
            _allow(system, rules, path, rights & handled)
    _checked(system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(system.syscall(_RESTRICT, rules, 0))
    os.close(rules)


def _allow(system: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):  # noqa: PTH112 - this script imports as little as it can
        rights &= _OF_FILES
    _checked(system.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0))
    os.close(place)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _main() -> None:
    confinement = json.loads(sys.argv[1])
    version = landlock_version()
    if not version:
        sys.exit("this system has no Landlock; nothing was started")
    _confine(confinement["read"], confinement["write"], version)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    _main()
