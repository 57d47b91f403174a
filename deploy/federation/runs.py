"""A federation's runs: where each one writes, how far it came, and how it is started, stopped and resumed."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import BadInput, RunFailed
from common.files import append_line
from common.privacy.ledger.keys import private_folder
from common.study import Study
from deploy.federation.app_bundle import deployed_bundle
from deploy.federation.control import Control, FlowerRun
from deploy.federation.coordinator_directory import CoordinatorDirectory

__all__ = ["Progress", "RunView", "read_progress", "resume_run", "run_views", "stop_run", "submit_run"]


@dataclass(frozen=True)
class Progress:
    """How far a run came, from what it wrote."""

    rounds: int = 0
    """Rounds of its plan; 0 before it said."""
    started_round: int = 0
    finished_round: int = 0
    last_event: str = ""
    last_time: float = 0.0
    """Unix time of the last event, seconds."""
    sites: tuple[str, ...] = ()
    """Sites that had connected."""
    message: str = ""
    """Why it failed, if it did."""


@dataclass(frozen=True)
class RunView:
    """A run folder, and what the SuperLink knows of the newest attempt at it."""

    directory: Path
    progress: Progress
    flower: FlowerRun | None
    """None where the SuperLink was not asked, or knows nothing of it."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.name

    @property
    def state(self) -> str:
        """Flower's word for it, or what the folder tells without it."""
        if (self.directory / "result.json").exists():
            return "completed"
        return self.flower.status if self.flower else "unknown"

    @property
    def is_going(self) -> bool:
        """Whether a process works on it, as far as the SuperLink knows."""
        return self.flower is not None and not self.flower.is_over

    def to_json(self) -> dict[str, Any]:
        """Public facts; ids as text, for they exceed what JSON readers keep exactly."""
        progress = self.progress
        return {
            "run": self.name,
            "directory": str(self.directory),
            "flower_run": str(self.flower.run_id) if self.flower else None,
            "state": self.state,
            "rounds": progress.rounds,
            "started_round": progress.started_round,
            "finished_round": progress.finished_round,
            "last_event": progress.last_event,
            "sites": list(progress.sites),
            "message": progress.message or (self.flower.details if self.flower else ""),
        }


def submit_run(
    directory: CoordinatorDirectory, control: Control, study: Study, name: str | None = None
) -> RunView:
    """Start a study as a new run.

    Args:
        directory: the federation.
        control: of its running coordinator.
        study: what to run.
        name: the run folder's name; by default the study's name and the time.

    Raises:
        BadInput: too few sites are registered, or the folder exists.
        RunFailed: another run is going, or the coordinator refuses.

    """
    registered = len(directory.registry.current())
    if registered < study.data.sites:
        raise BadInput(
            f"data.sites = {study.data.sites}: only {registered} sites are registered; register the others, or "
            f"set data.sites in the study"
        )
    _refuse_two_at_once(run_views(directory, control))
    run_directory = directory.runs / (name or f"{study.study.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    if run_directory.parent != directory.runs or run_directory.exists():
        raise BadInput(f"--name {run_directory.name}: must be a new folder's name in {directory.runs}")
    from common.study_file import write_study

    private_folder(run_directory)
    try:
        write_study(study, run_directory / "study.toml")
        return _started(control, study, run_directory, resume=False)
    except BaseException:
        shutil.rmtree(run_directory, ignore_errors=True)
        raise


def resume_run(directory: CoordinatorDirectory, control: Control, name: str) -> RunView:
    """Go on with a run that was stopped or failed, from its last checkpoint.

    Raises:
        BadInput: there is no such run, or it has finished.
        RunFailed: it, or another, is still going.
    """
    views = run_views(directory, control)
    view = _named(views, name)
    if view.state == "completed":
        raise BadInput(f"run {name}: has finished; its figures are in {view.directory / 'result.json'}")
    _refuse_two_at_once(views)
    from common.study_file import read_study

    return _started(control, read_study(view.directory / "study.toml"), view.directory, resume=True)


def stop_run(directory: CoordinatorDirectory, control: Control, name: str | None) -> RunView:
    """Stop a run, by default the one that is going; raises ``BadInput`` where none is."""
    views = run_views(directory, control)
    going = [view for view in views if view.is_going]
    if name is not None:
        view = _named(views, name)
    elif going:
        view = going[0]
    else:
        raise BadInput("no run is going")
    if view.flower is None or view.flower.is_over:
        raise BadInput(f"run {view.name}: is not going (it is {view.state})")
    if not control.stop(view.flower.run_id):
        raise RunFailed(f"run {view.name}: could not be stopped; see hanse run status")
    return next(again for again in run_views(directory, control) if again.directory == view.directory)


def run_views(directory: CoordinatorDirectory, control: Control | None) -> list[RunView]:
    """Every run of the federation, newest first; without ``control`` only what lies in the folders."""
    newest: dict[Path, FlowerRun] = {}
    for run in control.runs() if control else []:
        newest.setdefault(run.directory, run)
    folders = [path for path in directory.runs.iterdir() if (path / "study.toml").is_file()]
    folders.sort(key=lambda path: (path / "study.toml").stat().st_mtime, reverse=True)
    return [RunView(folder, read_progress(folder), newest.get(folder)) for folder in folders]


def read_progress(run_directory: Path) -> Progress:
    """How far the run in a folder came; an event that is half written is left out."""
    found: dict[str, Any] = {}
    path = run_directory / "events.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            continue
        found |= {"last_event": kind, "last_time": event.get("time", 0.0), "message": event.get("message", "")}
        if kind == "connecting":
            found["rounds"] = event["rounds"]
        elif kind == "connected":
            found["sites"] = tuple(event["sites"])
        elif kind == "round-started":
            found["started_round"] = event["round"]
        elif kind in ("round-finished", "round-consumed"):
            found["finished_round"] = event["round"]
    return Progress(**found)


def _started(control: Control, study: Study, run_directory: Path, resume: bool) -> RunView:
    run_id = control.submit(deployed_bundle(), study, run_directory, resume)
    append_line(
        run_directory / "submissions.jsonl",
        {"flower_run": str(run_id), "resume": resume, "time": round(time.time(), 3)},
    )
    flower = next((run for run in control.runs() if run.run_id == run_id), None)
    return RunView(run_directory, read_progress(run_directory), flower)


def _refuse_two_at_once(views: list[RunView]) -> None:
    # A site answers one message at a time: the rounds of two runs would hold each other up until one's deadline
    # passed, at the cost of its whole reservation.
    for view in views:
        if view.is_going:
            raise RunFailed(
                f"run {view.name}: is still going; wait for it or stop it (a process that was killed is noticed "
                "within about a minute)"
            )


def _named(views: list[RunView], name: str) -> RunView:
    for view in views:
        if view.name == name:
            return view
    raise BadInput(f"run {name}: no such run; there are: {', '.join(view.name for view in views) or 'none yet'}")
