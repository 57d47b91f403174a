"""The console that tables are printed on."""

from __future__ import annotations

from rich.console import Console

__all__ = ["wide_console"]

_WIDTH_OF_FILES = 110


def wide_console() -> Console:
    """A console as wide as the terminal; wide enough for every table where the output is not a terminal."""
    console = Console(soft_wrap=True)
    if console.is_terminal:
        return console
    return Console(soft_wrap=True, width=_WIDTH_OF_FILES)
