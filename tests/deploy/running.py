"""Runs the command line in a test's own process, as the `hanse` script does."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import deploy.cli


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


Hanse = Callable[..., Ended]


class Terminal(io.StringIO):
    """Somebody at a terminal who answers."""

    def isatty(self) -> bool:
        return True


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hanse:
    """A function that runs a command; with ``typed`` somebody sits there and types it."""
    monkeypatch.delenv("HANSE_SITE", raising=False)

    def run(*arguments: str, typed: str | None = None) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hanse", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
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
