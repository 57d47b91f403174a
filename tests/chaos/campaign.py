"""Injects a number of faults into a federation that runs study after study, and judges each run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from common.errors import HanseError
from deploy.federation.runs import Progress, read_progress
from server.run_directory import RunDirectory
from tests.chaos.faults import Fault, Kind, faults
from tests.chaos.invariants import GRACE_SECONDS, ledger_violations, run_violations, slow_rounds
from tests.chaos.world import ROUND_SECONDS, SITES, World

__all__ = ["Campaign", "Report", "RunReport"]

_TICK_SECONDS = 0.05
_ASK_SECONDS = 4.0
"""How often a run that says nothing is asked after."""
_FURTHER_TRIES = 3
"""A run may have to be resumed once for each fault, and so often while sites are on their way back."""
_RUN_SECONDS = 1800.0
"""A run that has not ended by then hangs."""
_SILENT_SECONDS = ROUND_SECONDS + 240.0
"""The longest legal silence: the coordinator is dead for a minute before Flower notices, then sites come back."""


@dataclass
class RunReport:
    """One run under fire."""

    name: str
    seconds: float = 0.0
    resumed: int = 0
    rounds_in_full: int = 0
    """Rounds in which all sites replied."""
    rounds: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass
class Report:
    """A campaign: the plan's seed, what was injected when, and what did not hold."""

    seed: int
    injected: list[dict[str, Any]] = field(default_factory=list)
    runs: list[RunReport] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def violations(self) -> list[str]:
        """Of all runs."""
        return [found for run in self.runs for found in run.violations]

    def to_json(self) -> dict[str, Any]:
        """For people and for evidence."""
        return {
            "seed": self.seed,
            "faults": len(self.injected),
            "by_kind": dict(sorted(Counter(each["kind"] for each in self.injected).items())),
            "violations": self.violations,
            "seconds": round(self.seconds, 1),
            "round_deadline_seconds": ROUND_SECONDS,
            "grace_seconds": GRACE_SECONDS,
            "runs": [asdict(run) for run in self.runs],
            "injected": self.injected,
        }


class Campaign:
    """Runs studies until ``most`` faults were injected and the last run has ended."""

    def __init__(
        self, world: World, seed: int, most: int, kinds: Sequence[Kind], tell: Callable[[str], None]
    ) -> None:
        """``world`` runs; ``tell`` hears what is done."""
        self._world = world
        self._most = most
        self._tell = tell
        self._plan = faults(seed, kinds, SITES)
        self._undo: list[tuple[float, int, Fault, Callable[[], None]]] = []
        self._order = itertools.count()
        self._peace_until = 0.0
        self._armed: tuple[Fault, float] | None = None
        self._dead_since: float | None = None
        self._disturbed: list[tuple[float, float]] = []
        self.report = Report(seed)

    def run(self) -> Report:
        """All of it; what was injected is undone at the end, whatever happens."""
        started = time.monotonic()
        try:
            for number in itertools.count(1):
                if len(self.report.injected) >= self._most:
                    break
                self._one_run(f"run-{number}")
                if self.report.runs[-1].violations:
                    break  # what follows would only repeat it
        finally:
            self._undo_due(float("inf"))
            self.report.seconds = time.monotonic() - started
        return self.report

    def _one_run(self, name: str) -> None:
        report = RunReport(name)
        self.report.runs.append(report)
        self._await(lambda: self._world.submit(name), report, f"{name}: submitted")
        started, asked = time.time(), time.time()
        folder = self._world.run_directory(name)
        while not (folder / "result.json").exists() and not report.violations:
            progress = read_progress(folder)
            self._step(progress, name)
            now = time.time()
            quiet = now - max(progress.last_time, asked)
            if quiet > _ASK_SECONDS:
                asked = now
                with contextlib.suppress(HanseError):
                    if not self._world.view(name).is_going:
                        self._world.resume(name)
                        report.resumed += 1
                        self._tell(f"{name}: resumed")
            if report.resumed > len(self.report.injected) + _FURTHER_TRIES:
                report.violations.append(f"{name}: cannot be resumed; its last event is {progress.last_event}")
            silent = now - max(progress.last_time, started)
            if now - started > _RUN_SECONDS or silent > _SILENT_SECONDS:
                report.violations.append(f"{name}: hangs; its last event is {progress.last_event}")
            time.sleep(_TICK_SECONDS)
        self._undo_due(float("inf"))
        report.seconds = round(time.time() - started, 1)
        self._judge(report)

    def _judge(self, report: RunReport) -> None:
        name, world = report.name, self._world
        report.violations += run_violations(world, name)
        report.violations += [
            f"{name}: {each}"
            for each in slow_rounds(world.run_directory(name) / "events.jsonl", ROUND_SECONDS, self._disturbed)
        ]
        report.violations += ledger_violations(world, [run.name for run in self.report.runs])
        records = RunDirectory(world.run_directory(name)).rounds()
        report.rounds = len(records)
        report.rounds_in_full = sum(all(site.replied for site in record.sites) for record in records)
        self._tell(f"{name}: {report.rounds_in_full} of {report.rounds} rounds in full, {report.seconds} s")
        for found in report.violations:
            self._tell(f"VIOLATION {found}")

    def _step(self, progress: Progress, name: str) -> None:
        """Undo what is due, and inject the next fault where its moment has come."""
        now = time.time()
        self._undo_due(now)
        in_round = progress.last_event in ("round-started", "site-replied", "site-back", "receipt-delivered")
        if self._armed is None:
            if self._undo or len(self.report.injected) >= self._most:
                return
            if progress.last_event == "round-started" and progress.last_time > self._peace_until:
                fault = next(self._plan)
                self._armed = fault, progress.last_time + fault.delay
        elif now >= self._armed[1]:
            self._inject(self._armed[0], name, in_round)
            self._armed = None

    def _inject(self, fault: Fault, name: str, in_round: bool) -> None:
        now = time.time()
        self.report.injected.append({**asdict(fault), "run": name, "time": round(now, 3), "in_round": in_round})
        self._tell(f"{name}: {fault.kind} {fault.target} for {fault.duration:.1f} s")
        undo = self._world.inject(fault)
        if fault.target == "coordinator":
            self._dead_since = now
        heapq.heappush(self._undo, (now + fault.duration, next(self._order), fault, undo))

    def _undo_due(self, now: float) -> None:
        while self._undo and self._undo[0][0] <= now:
            _, _, fault, undo = heapq.heappop(self._undo)
            undo()
            self._peace_until = time.time() + fault.pause
            if self._dead_since is not None and fault.target == "coordinator":
                self._disturbed.append((self._dead_since, time.time()))
                self._dead_since = None

    def _await(self, action: Callable[[], None], report: RunReport, said: str) -> None:
        """Try ``action`` until the coordinator takes it."""
        deadline = time.monotonic() + _SILENT_SECONDS
        while True:
            try:
                action()
            except HanseError as error:
                if time.monotonic() > deadline:
                    report.violations.append(f"{said}: {error}")
                    return
                time.sleep(1.0)
            else:
                self._tell(said)
                return
