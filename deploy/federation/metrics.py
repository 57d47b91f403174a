"""The coordinator's Prometheus metrics, read from what its runs write: ``rounds.jsonl`` and ``events.jsonl``.

Nothing in the run itself changes, and a scrape after a crash tells the same. Public facts alone: counts, wall
times of whole rounds, bytes, epsilon from plan and declared sizes. Neither the reasons of refusals nor how long a
single site took are shown (PRIVACY P15, P17).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.metrics_server import serving_on_address

__all__ = ["RunFigures", "read_figures", "run_registry", "serving_runs"]

_MISSING: Final = "no reply within"
_INTERRUPTED: Final = "interrupted;"
"""How ``server.rounds`` begins the reason of a site that did not reply, or of a round that was cut off."""


@dataclass(frozen=True)
class RunFigures:
    """What a run's folder tells."""

    run: str
    """The folder's name."""
    planned: int = 0
    """Rounds of its plan; 0 before it said."""
    started: int = 0
    finished: int = 0
    sites: int = 0
    """Sites that connected."""
    ended: str = ""
    """``finished`` or ``failed``; empty while it goes on."""
    last_event: float = 0.0
    """Unix time, seconds."""
    replies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By site and outcome: ``update``, ``refused``, ``missing`` (no reply in time) or ``interrupted``."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by part of a round, whole rounds added up."""
    transferred: Counter[str] = field(default_factory=Counter)
    """Bytes ``sent`` and ``received``: tensors, all sites together."""
    epsilon: dict[str, float] = field(default_factory=dict)
    """By site, spent since the study began."""


def read_figures(directory: Path) -> RunFigures:
    """The figures of the run in a folder; a line that is half written is left out."""
    facts: dict[str, Any] = {}
    for event in _lines(directory / "events.jsonl"):
        facts |= _facts_of(event)
    figures = RunFigures(run=directory.name, **facts)
    for record in _lines(directory / "rounds.jsonl"):
        _add(figures, record)
    return figures


def run_registry(runs: Callable[[], Sequence[Path]]) -> CollectorRegistry:
    """A registry whose figures are read anew at each scrape, from the folders that ``runs`` names then."""
    registry = CollectorRegistry()
    registry.register(_Runs(runs))
    return registry


def serving_runs(runs: Callable[[], Sequence[Path]], host: str, port: int) -> AbstractContextManager[int]:
    """Serve :func:`run_registry` within the context; gives the port. Raises ``RunFailed`` if it cannot listen."""
    return serving_on_address(run_registry(runs), host, port)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                value = json.loads(line)
            except ValueError:  # its end is still to be written, or a crash cut it
                continue
            if isinstance(value, dict):
                yield value


def _facts_of(event: dict[str, Any]) -> dict[str, Any]:
    kind, facts = event.get("event"), {"last_event": float(event.get("time", 0.0)), "ended": ""}
    if kind == "connecting":
        facts["planned"] = int(event.get("rounds", 0))
    elif kind == "connected":
        facts["sites"] = len(event.get("sites", ()))
    elif kind == "round-started":
        facts["started"] = int(event.get("round", 0))
    elif kind in ("round-finished", "round-consumed"):
        facts["finished"] = int(event.get("round", 0))
    elif kind in ("finished", "failed"):
        facts["ended"] = kind
    return facts


def _add(figures: RunFigures, record: dict[str, Any]) -> None:
    for site in record.get("sites", ()):
        name = str(site.get("site", ""))
        figures.replies[name, _outcome(bool(site.get("replied")), str(site.get("reason", "")))] += 1
        if site.get("epsilon") is not None:
            figures.epsilon[name] = float(site["epsilon"])
    for part, value in record.get("seconds", {}).items():
        figures.seconds[part] = figures.seconds.get(part, 0.0) + float(value)
    figures.transferred["sent"] += int(record.get("bytes_sent", 0))
    figures.transferred["received"] += int(record.get("bytes_received", 0))


def _outcome(replied: bool, reason: str) -> str:
    if replied:
        return "update"
    if reason.startswith(_MISSING):
        return "missing"
    return "interrupted" if reason.startswith(_INTERRUPTED) else "refused"


class _Runs(Collector):
    def __init__(self, runs: Callable[[], Sequence[Path]]) -> None:
        self._runs = runs

    def describe(self) -> Iterator[Metric]:
        """Name nothing ahead: the registry would collect once to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        runs = [read_figures(path) for path in self._runs()]
        yield from _progress(runs)
        yield from _totals(runs)


def _progress(runs: list[RunFigures]) -> Iterator[Metric]:
    shown: list[tuple[str, str, Callable[[RunFigures], float]]] = [
        ("hanse_run_rounds_planned", "Rounds of the plan.", lambda run: run.planned),
        ("hanse_run_round_started", "Newest round that was asked of the sites.", lambda run: run.started),
        ("hanse_run_rounds_finished", "Rounds that are over.", lambda run: run.finished),
        ("hanse_run_sites_seen", "Sites that connected.", lambda run: run.sites),
        ("hanse_run_finished", "1 once the result is written.", lambda run: run.ended == "finished"),
        ("hanse_run_failed", "1 while its last word is a failure.", lambda run: run.ended == "failed"),
        ("hanse_run_last_event_timestamp_seconds", "When it last said anything.", lambda run: run.last_event),
    ]
    for name, text, value in shown:
        family = GaugeMetricFamily(name, text, labels=["run"])
        for run in runs:
            family.add_metric([run.run], float(value(run)))
        yield family


def _totals(runs: list[RunFigures]) -> Iterator[Metric]:
    replies = CounterMetricFamily(
        "hanse_run_replies", "Answers of a site to rounds, by outcome.", labels=["run", "site", "outcome"]
    )
    seconds = CounterMetricFamily(
        "hanse_run_seconds", "Wall time of whole rounds, by part.", labels=["run", "part"]
    )
    moved = CounterMetricFamily("hanse_run_bytes", "Tensors, all sites together.", labels=["run", "direction"])
    epsilon = GaugeMetricFamily(
        "hanse_run_site_epsilon", "Spent by the run since it began, from plan and declared size.",
        labels=["run", "site"],
    )  # fmt: skip
    for run in runs:
        for (site, outcome), count in sorted(run.replies.items()):
            replies.add_metric([run.run, site, outcome], count)
        for part, value in sorted(run.seconds.items()):
            seconds.add_metric([run.run, part], value)
        for direction, count in sorted(run.transferred.items()):
            moved.add_metric([run.run, direction], count)
        for site, spent in sorted(run.epsilon.items()):
            epsilon.add_metric([run.run, site], spent)
    yield from (replies, seconds, moved, epsilon)
