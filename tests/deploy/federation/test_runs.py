"""How far a run came, told from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import BadInput, RunFailed
from common.study import Study
from deploy.federation.app_bundle import RUN_KEYS
from deploy.federation.control import Control, FlowerRun, connect
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.node_keys import create_node_key
from deploy.federation.runs import Progress, read_progress, resume_run, run_views, stop_run, submit_run


class _Going(Control):
    """A coordinator with one run, which is going."""

    def __init__(self, directory: Path, status: str = "running") -> None:
        self.run = FlowerRun(7, directory, status, "", None, None)

    def runs(self, most: int = 100) -> list[FlowerRun]:
        return [self.run]


def _events(folder: Path, *events: dict[str, object], tail: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").touch()
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + tail)


def test_progress_is_read_from_events(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == Progress()
    _events(
        tmp_path,
        {"event": "connecting", "sites": 2, "rounds": 3, "time": 1.0},
        {"event": "connected", "sites": ["a", "b"], "time": 2.0},
        {"event": "round-started", "round": 1, "time": 3.0},
        {"event": "round-finished", "round": 1, "time": 4.0},
        {"event": "round-started", "round": 2, "time": 5.0},
        tail='{"event": "round-fin',
    )
    assert read_progress(tmp_path) == Progress(3, 2, 1, "round-started", 5.0, ("a", "b"), "")


def test_a_failure_is_told_until_the_run_goes_on(tmp_path: Path) -> None:
    _events(tmp_path, {"event": "failed", "message": "1 of 2 sites connected", "time": 1.0})
    assert read_progress(tmp_path).message == "1 of 2 sites connected"
    _events(tmp_path, {"event": "failed", "message": "x"}, {"event": "connecting", "rounds": 3})
    assert read_progress(tmp_path).message == ""


def test_too_few_registered_sites_are_said_at_once(
    federation: CoordinatorDirectory, two_sites: Study, tmp_path: Path
) -> None:
    federation.registry.register("clinic", create_node_key(tmp_path / "keys" / "a"))
    with pytest.raises(BadInput, match=r"data\.sites = 2: only 1 sites are registered"):
        submit_run(federation, _Going(tmp_path), two_sites)
    assert not list(federation.runs.iterdir())


def test_two_runs_at_once_are_refused(federation: CoordinatorDirectory, two_sites: Study, tmp_path: Path) -> None:
    for name in ("a", "b"):
        federation.registry.register(name, create_node_key(tmp_path / "keys" / name))
    _events(federation.runs / "first", {"event": "connecting", "rounds": 3})
    going = _Going(federation.runs / "first")
    for attempt in (
        lambda: submit_run(federation, going, two_sites),
        lambda: resume_run(federation, going, "first"),
    ):
        with pytest.raises(RunFailed, match="run first: is still going"):
            attempt()


def test_names_of_runs(federation: CoordinatorDirectory, two_sites: Study, tmp_path: Path) -> None:
    for name in ("a", "b"):
        federation.registry.register(name, create_node_key(tmp_path / "keys" / name))
    _events(federation.runs / "first", {"event": "connecting", "rounds": 3})
    over = _Going(federation.runs / "first", "failed")
    for name in ("first", "../first", "x/y", ".."):
        with pytest.raises(BadInput, match="must be a new folder's name"):
            submit_run(federation, over, two_sites, name)
    with pytest.raises(BadInput, match="no such run; there are: first"):
        resume_run(federation, over, "second")
    with pytest.raises(BadInput, match="is not going"):
        stop_run(federation, over, "first")
    with pytest.raises(BadInput, match="no run is going"):
        stop_run(federation, over, None)


def test_a_finished_run_is_not_resumed(federation: CoordinatorDirectory) -> None:
    folder = federation.runs / "first"
    _events(folder, {"event": "finished"})
    (folder / "result.json").write_text("{}")
    assert run_views(federation, None)[0].state == "completed"
    with pytest.raises(BadInput, match="has finished"):
        resume_run(federation, _Going(folder, "completed"), "first")


def test_without_a_coordinator_the_folders_still_tell(federation: CoordinatorDirectory) -> None:
    _events(federation.runs / "first", {"event": "connecting", "rounds": 3})
    (view,) = run_views(federation, None)
    assert (view.name, view.state, view.is_going, view.progress.rounds) == ("first", "unknown", False, 3)
    with pytest.raises(RunFailed, match="hanse coordinator run"), connect(federation):
        pass


def test_the_bundle_names_what_the_server_reads() -> None:
    """Flower refuses a run whose configuration has a key that the bundle lacks."""
    import inspect

    from server import app

    text = inspect.getsource(app)
    assert all(f'"{key}"' in text for key in RUN_KEYS)
