"""A day of rounds in minutes: what each process and each folder holds as the rounds go by."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types

from deploy.federation.runs import read_progress
from tests.chaos.world import SITES, World

__all__ = ["Series", "soak"]

_SAMPLE_SECONDS = 3.0
_NAMES = {
    "deploy.federation.superlink_process": "superlink",
    "flower_superexec": "superexec",
    "flwr-serverapp": "serverapp",
    "flower_supernode": "supernode",
    "deploy.site.guard_process": "guard",
}


@dataclass
class Series:
    """One quantity by round."""

    rounds: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, round_number: int, value: float) -> None:
        """A sample."""
        self.rounds.append(round_number)
        self.values.append(value)

    def growth(self) -> dict[str, float]:
        """Medians of the second and of the last quarter; the first is for warming up."""
        last = max(self.rounds, default=0)

        def median(low: float, high: float) -> float:
            held = [v for r, v in zip(self.rounds, self.values, strict=True) if low * last < r <= high * last]
            return statistics.median(held) if held else float("nan")

        second, fourth = median(0.25, 0.5), median(0.75, 1.0)
        return {"second_quarter": round(second, 2), "last_quarter": round(fourth, 2)}


def soak(world: World, rounds: int, seconds: float) -> dict[str, Any]:
    """Run one study of ``rounds`` rounds and watch it; ``world`` runs.

    Raises:
        AssertionError: it did not end in ``seconds``.
    """
    world.submit("soak", rounds)
    folder, found, started = world.run_directory("soak"), dict[str, Series](), time.monotonic()
    while not (folder / "result.json").exists():
        assert time.monotonic() - started < seconds, read_progress(folder)
        number = read_progress(folder).finished_round
        for name, value in _sample(world).items():
            found.setdefault(name, Series()).add(number, value)
        time.sleep(_SAMPLE_SECONDS)
    took = time.monotonic() - started
    return {
        "rounds": rounds,
        "seconds": round(took, 1),
        "seconds_per_round": round(took / rounds, 2),
        "by_quantity": {name: series.growth() for name, series in sorted(found.items())},
    }


def _sample(world: World) -> dict[str, float]:
    found: dict[str, float] = {
        "coordinator folder MiB": _folder_mebibytes(world.local.coordinator),
        "coordinator run folder MiB": _folder_mebibytes(world.run_directory("soak")),
    }
    for party in ("coordinator", *SITES):
        if party != "coordinator":
            found[f"{party} folder MiB"] = _folder_mebibytes(world.local.home(party))
        for process in psutil.Process(world.local.pid(party)).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                name = next((name for part, name in _NAMES.items() if part in words), None)
                if name is None:
                    continue
                found[f"{party} {name} MiB"] = process.memory_info().rss / 2**20
                found[f"{party} {name} open files"] = process.num_fds()
    return found


def _folder_mebibytes(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total / 2**20
