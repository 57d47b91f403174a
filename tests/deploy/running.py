"""Runs the command line as the `hanse` script does: in a test's own process, or in one that tells its imports."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import deploy.cli


class Ended(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


ROOT = Path(__file__).resolve().parents[2]

Hanse = Callable[..., Ended]


class Terminal(io.StringIO):
    """Somebody at a terminal who answers."""

    def isatty(self) -> bool:
        return True


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *first: str) -> Hanse:
    """A function that runs a command whose first words are ``first``.

    With ``typed`` somebody sits there and types it; else ``stdin`` is what a pipe gives.
    """
    monkeypatch.delenv("HANSE_SITE", raising=False)

    def run(*arguments: str, typed: str | None = None, stdin: bytes = b"") -> Ended:
        piped = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["hanse", *first, *arguments])
        monkeypatch.setattr(sys, "stdin", piped if typed is None else Terminal(typed))
        capsys.readouterr()
        try:
            deploy.cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return run


def assert_one_line(ended: Ended, code: int, *parts: str) -> None:
    """It was refused with one line that holds ``parts``, and nothing else was printed."""
    assert ended.code == code, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("hanse: ")
    for part in parts:
        assert part in line


def telling_imports(arguments: list[str], heavy: set[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that ends with ``LOADED [...]`` on its errors: what it imported of ``heavy``."""
    script = (
        "import atexit, sys; import deploy.cli; sys.argv[0] = 'hanse'\n"
        f"heavy = {sorted(heavy)!r}\n"
        "atexit.register(lambda: print('LOADED', sorted(set(heavy) & set(sys.modules)), file=sys.stderr))\n"
        "deploy.cli.main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
