"""The runs under a folder, read again only where a file has changed."""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import BadInput
from deploy.report.facts import RunState
from deploy.report.reading import last_event, state_of

__all__ = ["RunFolder", "RunRow"]

_DEPTH = 2
"""Runs lie in the folder itself or, those of a sweep, in a folder of it."""
_STUDY, _RESULT, _EVENTS = "study.toml", "result.json", "events.jsonl"


@dataclass(frozen=True)
class RunRow:
    """One line of the list."""

    name: str
    """Its path in the folder, with slashes."""
    state: RunState
    study: str
    private: bool | None
    epsilon: float | None
    """The largest of a site; None before the end."""
    accuracy: float | None
    """On the test set; None before the end."""
    event: str
    """The newest event in a few words."""
    changed: float
    """Unix time of the newest change, seconds."""

    @property
    def when(self) -> str:
        """The newest change, local time."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.changed))


class RunFolder:
    """A folder of run directories."""

    def __init__(self, path: Path) -> None:
        """Watch ``path``; raises :class:`BadInput` if it is no folder."""
        if not path.is_dir():
            raise BadInput(f"{path}: no such folder; hanse simulate writes its runs into runs/")
        self.path = path
        self._known: dict[Path, tuple[tuple[int, ...], RunRow]] = {}

    def rows(self) -> list[RunRow]:
        """Every run, the newest change first."""
        found = [self._row(directory) for directory in self._directories()]
        return sorted(found, key=lambda row: (-row.changed, row.name))

    def find(self, name: str) -> Path:
        """The directory of a run that is in the list; raises :class:`BadInput` for any other name."""
        for directory in self._directories():
            if self._name(directory) == name:
                return directory
        raise BadInput(f'run = "{name}": no such run in {self.path.name}/')

    def signature(self) -> str:
        """Changes whenever something in the list does."""
        return repr([(row.name, row.state, row.event, row.changed) for row in self.rows()])

    def _directories(self) -> list[Path]:
        found, level = [], [self.path]
        for depth in range(_DEPTH + 1):
            runs = [folder for folder in level if (folder / _STUDY).is_file()]
            found += runs
            if depth < _DEPTH:
                level = [
                    child
                    for folder in level
                    if folder not in runs
                    for child in sorted(folder.iterdir())
                    if child.is_dir() and not child.is_symlink() and not child.name.startswith(".")
                ]
        return found

    def _name(self, directory: Path) -> str:
        return directory.relative_to(self.path).as_posix() if directory != self.path else directory.resolve().name

    def _row(self, directory: Path) -> RunRow:
        stamps = tuple(_stamp(directory / name) for name in (_STUDY, _RESULT, _EVENTS))
        known = self._known.get(directory)
        if known and known[0] == stamps and known[1].state != "going":
            return known[1]
        row = _read_row(directory, self._name(directory), max(stamps) / 1e9)
        self._known[directory] = (stamps, row)
        return row


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read_row(directory: Path, name: str, changed: float) -> RunRow:
    result = _json(directory / _RESULT)
    event = {} if result else last_event(directory)
    if result:
        private = bool(result.get("private"))
        spent = [site["epsilon"] for site in result.get("sites", []) if site.get("epsilon") is not None]
        study, told = str(result.get("study", "")), f"{result.get('rounds')} rounds"
    else:
        private, spent, (study, told) = None, [], (_study_name(directory), _in_words(event))
    return RunRow(
        name=name,
        state=state_of(bool(result), event),
        study=study,
        private=private,
        epsilon=max(spent, default=None),
        accuracy=result.get("test", {}).get("overall", {}).get("accuracy"),
        event=told,
        changed=changed,
    )


def _json(path: Path) -> dict[str, Any]:
    """What a result holds; nothing where there is none that can be read: the list goes on without it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _study_name(directory: Path) -> str:
    try:
        return str(tomllib.loads((directory / _STUDY).read_text(encoding="utf-8"))["study"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable study.toml"


def _in_words(event: dict[str, Any]) -> str:
    said = str(event.get("event", "not begun")).replace("-", " ")
    return f"{said} {event['round']}" if "round" in event else said
