"""The folder that holds everything a run leaves behind."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import BadInput
from common.files import append_line, write_json, write_text
from common.privacy.ledger.details import Head
from server.records import RoundRecord
from server.witnessed_heads import append_heads, newest_heads

__all__ = ["RunDirectory"]


class RunDirectory:
    """Names and writes the files of one run.

    ``study.toml`` (resolved), ``rounds.jsonl``, ``result.json``, ``model/``, ``checkpoints/``, ``run.json``
    (the run's identifier), ``witness.jsonl`` (the sites' ledger heads after each round), and ``events.jsonl``,
    which grows as things happen so that whoever watches can follow it. Where the study asks for it also
    ``updates/`` (``server.kept_updates``) and ``selection.jsonl``; ``contribution.json`` comes after the run.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder, creating it where it is missing."""
        self.path = path
        self.checkpoint = path / "checkpoints" / "latest.safetensors"
        self.model = path / "model"
        self.result = path / "result.json"
        self.updates = path / "updates"
        self.selection = path / "selection.jsonl"
        self.contribution = path / "contribution.json"
        self.sites = path / "sites.json"
        self._rounds = path / "rounds.jsonl"
        self._events = path / "events.jsonl"
        self._started = path / "checkpoints" / "started.json"
        self._run = path / "run.json"
        self._witness = path / "witness.jsonl"
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)

    def event(self, kind: str, **facts: Any) -> None:
        """Tell whoever follows the run that something happened; public facts only."""
        append_line(self._events, {"event": kind, "time": round(time.time(), 3), **facts}, durable=False)

    def run_identifier(self) -> str:
        """What names this run in the sites' ledgers; drawn once, kept when the run is resumed."""
        if not self._run.exists():
            write_json(self._run, {"run": secrets.token_hex(16)})
        return str(json.loads(self._run.read_text(encoding="utf-8"))["run"])

    def witness(self, round_number: int, heads: Mapping[str, Head]) -> None:
        """Append the ledger heads that came with a round's updates, by site, on disk when this returns (P8)."""
        append_heads(self._witness, round_number, heads)

    def witnessed(self) -> dict[str, Head]:
        """The newest head of each site; a line cut short by a crash at the end is left out."""
        return newest_heads(self._witness)

    def add_round(self, record: RoundRecord) -> None:
        """Append a finished round to ``rounds.jsonl``, on disk when this returns."""
        append_line(self._rounds, record.to_json())

    def rounds(self) -> list[RoundRecord]:
        """The rounds on record; a line cut short by a crash at the end is left out.

        Raises:
            BadInput: a line before the last cannot be read.
        """
        if not self._rounds.exists():
            return []
        lines = self._rounds.read_text(encoding="utf-8").splitlines()
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(RoundRecord.from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise BadInput(f"{self._rounds}: line {number} is not a round record") from error
        return records

    def keep_rounds(self, records: list[RoundRecord]) -> None:
        """Replace ``rounds.jsonl`` by these records, atomically."""
        write_text(self._rounds, "".join(json.dumps(r.to_json(), sort_keys=True) + "\n" for r in records))

    def mark_started(self, round_number: int) -> None:
        """Note, on disk, that a round is about to be asked of the sites: from here on it may cost budget."""
        write_json(self._started, {"round": round_number})

    def started_round(self) -> int:
        """The last round that was asked of the sites; 0 if none was."""
        if not self._started.exists():
            return 0
        return int(json.loads(self._started.read_text(encoding="utf-8"))["round"])
