"""A coordinator's record of a run, and the ledger heads that it witnessed, read from its files.

The files are evidence from another party, so every field is checked and nothing of the coordinator's own code
is used. A last line that a crash cut short is left out, as the coordinator does when it resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.mechanism import Mechanism
from common.privacy.mechanism import from_json as mechanism_from_json

__all__ = [
    "RecordedRound",
    "RecordedSite",
    "RunEvidence",
    "Witness",
    "WitnessedHead",
    "read_run",
    "read_witness",
]

_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class RecordedSite:
    """One site in one round, as the coordinator recorded it."""

    site: str
    mechanism: Mechanism
    epsilon: float | None
    """What the coordinator says was spent since the run began; None without privacy."""
    replied: bool


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """One round of ``rounds.jsonl``."""

    round: int
    sites: tuple[RecordedSite, ...]


@dataclass(frozen=True, slots=True)
class WitnessedHead:
    """A site's head as it came with a round's update."""

    round: int
    site: str
    head: Head


@dataclass(frozen=True, slots=True)
class Witness:
    """Heads that one coordinator saw, in the order in which it saw them."""

    name: str
    """Where they come from, for reports."""
    heads: tuple[WitnessedHead, ...]
    coordinator: str = ""
    """The coordinator's name as ledgers have it; "" if unknown."""


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """A run directory, as far as an auditor needs it."""

    name: str
    """Where it comes from, for reports."""
    run: str
    """Names the run in the sites' ledgers."""
    rounds: tuple[RecordedRound, ...]
    witness: Witness | None
    started: int = 0
    """The last round that was asked of the sites; it has no record if the run was cut off in it."""
    finished: bool = False
    """Whether the run has a result."""


def read_run(directory: Path) -> RunEvidence:
    """Read ``run.json``, ``rounds.jsonl``, ``witness.jsonl`` and the marks of progress of a run directory.

    Raises:
        BadInput: a file is missing or says something else than such a file does.
    """
    run = _json(directory / "run.json")
    if not isinstance(run, dict) or not isinstance(run.get("run"), str):
        raise BadInput(f"{directory / 'run.json'}: must be an object with the text `run`")
    started, witness = directory / "checkpoints" / "started.json", directory / "witness.jsonl"
    rounds = _lines(directory / "rounds.jsonl", _round)
    numbers = [each.round for each in rounds]
    if numbers != sorted(set(numbers)):
        raise BadInput(f"{directory / 'rounds.jsonl'}: rounds must rise, and {numbers} do not")
    return RunEvidence(
        name=str(directory),
        run=run["run"],
        rounds=rounds,
        witness=read_witness(witness) if witness.exists() else None,
        started=_started(started) if started.exists() else 0,
        finished=(directory / "result.json").exists(),
    )


def read_witness(path: Path, coordinator: str = "") -> Witness:
    """Read a file of lines ``{"round": n, "heads": {site: {"sequence", "hash"}}}``; raises ``BadInput``."""
    heads = [head for line in _lines(path, _heads) for head in line]
    return Witness(str(path), tuple(heads), coordinator)


def _lines(path: Path, read: Callable[[object], _Line]) -> tuple[_Line, ...]:
    text = _text(path)
    lines = text.splitlines()
    torn = len(lines) if lines and lines[-1].startswith("{") and not text.endswith("\n") else 0
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(read(json.loads(line)))
        except (ValueError, RecursionError, BadInput) as error:
            if number != torn or not isinstance(error, json.JSONDecodeError):
                raise BadInput(f"{path}: line {number}: {_first_line(error)}") from error
    return tuple(found)


def _round(value: object) -> RecordedRound:
    table = _table(value)
    sites = table.get("sites")
    if not isinstance(sites, list):
        raise BadInput("sites: must be a list")
    read = tuple(_site(_table(site)) for site in sites)
    if len({site.site for site in read}) != len(read):
        raise BadInput("sites: a name stands twice")
    return RecordedRound(_whole(table, "round"), read)


def _site(table: Mapping[str, object]) -> RecordedSite:
    site, replied, epsilon = table.get("site"), table.get("replied"), table.get("epsilon")
    if not isinstance(site, str) or not isinstance(replied, bool):
        raise BadInput("site: must be a text, and replied true or false")
    return RecordedSite(site, mechanism_from_json(table.get("mechanism")), _epsilon(epsilon), replied)


def _epsilon(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise BadInput(f"epsilon = {value!r}: must be null or a number from 0")
    return float(value)


def _heads(value: object) -> tuple[WitnessedHead, ...]:
    table = _table(value)
    number = _whole(table, "round")
    try:
        heads = {site: Head.model_validate(head) for site, head in _table(table.get("heads")).items()}
    except ValidationError as error:
        raise BadInput("heads: each must have a sequence and a hash") from error
    return tuple(WitnessedHead(number, site, head) for site, head in heads.items())


def _started(path: Path) -> int:
    return _whole(_table(_json(path)), "round")


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadInput("must be an object")
    return value


def _whole(table: Mapping[str, object], field: str) -> int:
    value = table.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{field} = {value!r}: must be a whole number from 1")
    return value


def _json(path: Path) -> object:
    try:
        found: object = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not JSON") from error
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BadInput(f"{path}: is not UTF-8") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
