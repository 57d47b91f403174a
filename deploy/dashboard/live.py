"""A run's events as they are written: where its round stands, and lines for the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

__all__ = ["LiveRun", "event_line", "follow_events", "read_live"]

_TAIL = 60
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class LiveRun:
    """Where a run stands."""

    planned: int
    """Rounds of its plan; 0 before it said."""
    finished: int
    """The last finished round."""
    round: int | None
    """The round that is under way."""
    replied: tuple[str, ...]
    waiting: tuple[str, ...]
    """Sites of the round under way that have not answered: the stragglers."""
    waited: float
    """Seconds since that round began."""
    log: tuple[str, ...]
    """The last events in words."""


def read_live(directory: Path) -> LiveRun:
    """Read the events that are there."""
    events = _events(directory / "events.jsonl")
    planned, finished, number, began = 0, 0, None, 0.0
    sites: tuple[str, ...] = ()
    replied: list[str] = []
    for event in events:
        match event.get("event"):
            case "connecting":
                planned, number = int(event.get("rounds", 0)), None
            case "connected":
                sites = tuple(map(str, event.get("sites", ())))
            case "round-started":
                number, began, replied = int(event["round"]), float(event["time"]), []
            case "site-replied":
                replied.append(str(event["site"]))
            case "round-finished" | "round-consumed":
                finished, number = int(event["round"]), None
            case "failed" | "finished":
                number = None
    under_way = number is not None
    return LiveRun(
        planned=planned,
        finished=finished,
        round=number,
        replied=tuple(replied) if under_way else (),
        waiting=tuple(site for site in sites if site not in replied) if under_way else (),
        waited=max(0.0, time.time() - began) if under_way else 0.0,
        log=tuple(event_line(event) for event in events[-_TAIL:]),
    )


def event_line(event: dict[str, Any]) -> str:
    """An event in one line; what it holds is shown as it is."""
    when = time.strftime("%H:%M:%S", time.localtime(float(event.get("time", 0.0))))
    kind = str(event.get("event", "?"))
    said = kind.replace("-", " ")
    if "round" in event:
        said += f" {event['round']}"
    if kind == "round-finished" and event.get("evaluation"):
        overall = event["evaluation"]["overall"]
        said += "".join(f", {name} {overall[name]:.4f}" for name in ("accuracy", "loss") if name in overall)
    for key in ("site", "reason", "message"):
        if event.get(key):
            said += f", {event[key]}"
    if isinstance(event.get("sites"), list) and kind == "connected":
        said += f": {', '.join(map(str, event['sites']))}"
    return f"{when} {said}"


async def follow_events(path: Path, ended: Event) -> AsyncIterator[dict[str, Any]]:
    """Events that are written from now on, until ``ended``."""
    place = path.stat().st_size if path.exists() else 0
    rest = b""
    while not ended.is_set():
        if path.exists() and path.stat().st_size > place:
            with path.open("rb") as stream:
                stream.seek(place)
                rest += stream.read()
                place = stream.tell()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if (event := _parsed(line)) is not None:
                    yield event
        await asyncio.sleep(_POLL_SECONDS)


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(_parsed, lines) if event is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:  # cut short by a crash
        return None
    return event if isinstance(event, dict) else None
