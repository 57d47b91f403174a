"""Shows a run as it happens, by following the events that the coordinator writes into the run directory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from common.study import Study
from deploy.console import wide_console

__all__ = ["follow", "round_line"]

_HEADER = (
    f"{'round':>5}  {'phase':<10} {'steps':>5} {'sites':>5}  {'loss':>6} {'accuracy':>8} {'macro F1':>8}  "
    f"{'epsilon':>7} {'examples/s':>10} {'seconds':>7}"
)


@contextmanager
def follow(directory: Path, study: Study, quiet: bool) -> Iterator[None]:
    """Within the context, print a line per finished round and, on a terminal, a progress bar below.

    Args:
        directory: the run directory; its ``events.jsonl`` is followed from where it ends now.
        study: says how many examples a step is expected to draw.
        quiet: print nothing.
    """
    if quiet:
        yield
        return
    console = wide_console()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rounds"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        follower = _Follower(directory / "events.jsonl", study, console, progress)
        follower.start()
        try:
            yield
        finally:
            follower.stop()


def round_line(record: dict[str, Any], study: Study) -> str:
    """One line of the table for a finished round, as in ``rounds.jsonl``."""
    replied = sum(site["replied"] for site in record["sites"])
    scores = (record["evaluation"] or {}).get("overall")
    spent = [site["epsilon"] for site in record["sites"] if site["epsilon"] is not None]
    # What was really drawn is private: the rate is of expected examples.
    expected = study.privacy.batch_size * record["steps"] * replied
    rate = expected / record["seconds"]["train"] if record["seconds"].get("train") else 0.0
    figures = (
        f"{scores['loss']:>6.3f} {scores['accuracy']:>8.4f} {_f1(record['evaluation']):>8}"
        if scores
        else f"{'-':>6} {'-':>8} {'-':>8}"
    )
    epsilon = f"{max(spent):>7.2f}" if spent else f"{'none':>7}"
    return (
        f"{record['round']:>5}  {record['phase']:<10} {record['steps']:>5} {replied:>5}  {figures}  "
        f"{epsilon} {rate:>10.0f} {record['seconds'].get('round', 0.0):>7.1f}"
    )


def _f1(evaluation: dict[str, Any]) -> str:
    """Entity F1 where words have tags, else macro F1; nothing where tokens were hidden."""
    score = evaluation.get("entities", evaluation["overall"])
    return f"{score['f1' if 'entities' in score else 'macro_f1']:.4f}" if "macro_f1" in score else "-"


class _Follower:
    """Reads new lines of a growing file in a thread and turns them into output."""

    def __init__(self, path: Path, study: Study, console: Console, progress: Progress) -> None:
        self._path = path
        self._study = study
        self._console = console
        self._progress = progress
        self._task = progress.add_task("starting", total=None)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._replied = 0

    def start(self) -> None:
        offset = self._path.stat().st_size if self._path.exists() else 0
        self._offset = offset
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=2)

    def _follow(self) -> None:
        stream: TextIO | None = None
        line = ""
        while True:
            last = self._stopped.is_set()
            if stream is None and self._path.exists():
                stream = self._path.open(encoding="utf-8")
                stream.seek(self._offset)
            if stream is not None:
                for piece in stream:
                    line += piece
                    if line.endswith("\n"):  # else the rest is still to be written
                        self._show(json.loads(line))
                        line = ""
            if last:
                break
            time.sleep(0.1)
        if stream is not None:
            stream.close()

    def _show(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "connecting":
            self._progress.update(self._task, description="preparing the sites", total=event["rounds"])
        elif kind == "connected":
            private = "private" if self._study.privacy.enabled else "NOT PRIVATE (privacy.enabled = false)"
            self._console.print(f"Study {self._study.study.name}: {len(event['sites'])} sites, {private}")
            self._console.print(_HEADER, style="bold")
        elif kind == "round-started":
            self._replied = 0
            self._progress.update(self._task, description=f"round {event['round']}", completed=event["round"] - 1)
        elif kind == "site-replied":
            self._replied += 1
            self._progress.update(self._task, description=f"round {event['round']}, {self._replied} sites done")
            if event["reason"]:
                self._console.print(f"site {event['site']}: {event['reason']}", style="yellow", markup=False)
        elif kind == "round-consumed":
            self._console.print(f"round {event['round']} was interrupted: counted as spent, not repeated")
        elif kind == "round-finished":
            self._console.print(round_line(event, self._study), highlight=False)
            self._progress.update(self._task, completed=event["round"])
        elif kind == "testing":
            self._progress.update(self._task, description="testing the best round")
