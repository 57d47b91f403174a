"""A federation from a study: workers, threads, engines, and errors that come out as they were raised."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import deploy.simulation
from common.errors import BadInput, RunFailed
from common.study import Study
from common.study_file import parse_study
from deploy.simulation import resources_for, simulate
from tests.tiny import tiny_study_text


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


@pytest.fixture
def make(tiny_base: Path, tiny_data: Path) -> Any:
    """Makes the tiny study with overrides."""
    text = tiny_study_text(tiny_base, tiny_data)
    return lambda *overrides: parse_study(text, where="tiny", overrides=overrides)


@pytest.mark.parametrize(
    ("sites", "workers", "expected"),
    [
        (4, '"auto"', (4, 1)),
        (2, '"auto"', (2, 2)),
        (1, '"auto"', (1, 4)),
        (40, '"auto"', (4, 1)),
        (4, "2", (2, 2)),
        (4, "3", (3, 1)),
        (4, "16", (4, 1)),
        (40, "16", (16, 1)),
    ],
)
@pytest.mark.usefixtures("four_cores")
def test_workers_share_the_cores(make: Any, sites: int, workers: str, expected: tuple[int, int]) -> None:
    study = make(f"data.sites={sites}", "federation.min_sites=1", f"simulation.workers={workers}")
    found = resources_for(study)
    assert (found.workers, found.threads) == expected


@pytest.mark.parametrize(("gpus", "each", "workers"), [(1, 0.5, 2), (2, 1.0, 2), (8, 1.0, 4), (1, 0.25, 4)])
def test_sites_share_the_gpus(
    make: Any, monkeypatch: pytest.MonkeyPatch, gpus: int, each: float, workers: int
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    study = make(f"simulation.gpus_per_site={each}", 'simulation.workers="auto"')
    assert resources_for(study).workers == workers


def test_gpus_that_are_not_there_are_refused(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(BadInput, match=r"simulation.gpus_per_site = 0.5: this machine has 0 GPUs"):
        resources_for(make("simulation.gpus_per_site=0.5"))


def test_the_engine_is_the_one_that_the_study_names(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []
    for engine in ("ray", "locally"):
        name = "_simulate_on_ray" if engine == "ray" else "_simulate_locally"
        monkeypatch.setattr(deploy.simulation, name, lambda *_, engine=engine: ran.append(engine))
    simulate(make("privacy.enabled=false"), tmp_path)
    simulate(make("privacy.enabled=false", "simulation.engine=ray"), tmp_path)
    assert ran == ["locally", "ray"]


def test_nothing_reaches_for_the_network(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(deploy.simulation, "_simulate_locally", lambda *_: None)
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    simulate(make("privacy.enabled=false"), tmp_path)
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_a_quick_study_runs_through_the_real_apps(make: Any, tmp_path: Path) -> None:
    quick = ("privacy.enabled=false", "model.warm_start_steps=0", "federation.rounds=1")
    simulate(make(*quick), tmp_path)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["rounds"] == 1
    assert [site["rounds_replied"] for site in result["sites"]] == [1, 1, 1, 1]


def test_an_error_of_the_server_is_raised_and_told_to_whoever_follows(make: Any, tmp_path: Path) -> None:
    study: Study = make("data.sites=3", "simulation.workers=1")
    with pytest.raises(BadInput, match=r"data.sites = 3: the partition column has 4 values"):
        simulate(study, tmp_path)
    last = json.loads((tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["event"] == "failed"
    assert "data.sites = 3" in last["message"]
    assert not (tmp_path / "result.json").exists()


def test_a_dead_worker_is_a_failed_run(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local_engine.LocalGrid.push_messages", _killing)
    with pytest.raises(RunFailed, match="a worker process ended unexpectedly"):
        simulate(make(), tmp_path)


def _killing(grid: Any, messages: Any) -> list[str]:
    # the first question is already on its way to workers that are no more
    for worker in grid._workers:
        worker.process.kill()
        worker.process.join()
    grid._workers[0].busy_with = next(iter(messages))
    return ["1", "2", "3", "4"]
