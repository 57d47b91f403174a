"""Trackers: what is copied, and clear words where one is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from common.errors import BadInput
from deploy.report.reading import read_run
from deploy.report.tracking import figures_of_round, tracker
from tests.deploy.report.samples import write_run


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return write_run(tmp_path / "one")


def test_a_rounds_figures_are_copied(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one"))
    found = figures_of_round(run, run.rounds[-1])
    evaluation = run.rounds[-1].evaluation
    assert evaluation is not None
    assert found["validation_accuracy"] == evaluation.overall.accuracy
    assert found["epsilon"] == found["epsilon_north"] == pytest.approx(8.0)


def test_p19_figures_by_site_stay_with_the_coordinator(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", "privacy.unit='institution'", "privacy.batch_size=1"))
    assert not [name for name in figures_of_round(run, run.rounds[-1]) if name.startswith("epsilon_")]


def test_unknown_and_missing_trackers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"must be one of mlflow, tensorboard, wandb"):
        tracker("elsewhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'hanse\[mlflow\]'"):
        tracker("mlflow")


def test_tensorboard_gets_the_figures(run_directory: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = read_run(run_directory)
    tracker("tensorboard")(run, run_directory)
    found = EventAccumulator(str(run_directory / "tensorboard"))
    found.Reload()
    seen = [(event.step, event.value) for event in found.Scalars("validation_accuracy")]
    assert seen == [
        (record.round, pytest.approx(record.evaluation.overall.accuracy))
        for record in run.rounds
        if record.evaluation
    ]


@pytest.mark.slow
def test_mlflow_gets_the_figures(run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = read_run(run_directory)
    tracker("mlflow")(run, run_directory)
    (kept,) = mlflow.search_runs(experiment_names=[run.study.study.name], output_format="list")
    last = figures_of_round(run, run.rounds[-1])
    assert kept.data.metrics["epsilon"] == last["epsilon"]
    assert kept.data.params["privacy.epsilon"] == str(run.study.privacy.epsilon)
    assert kept.data.tags["private"] == "true"


@pytest.mark.slow
def test_wandb_writes_here_and_sends_nothing(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # whatever the user's habit is
    run = read_run(run_directory)
    tracker("wandb")(run, run_directory)
    (written,) = (run_directory / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    assert b"validation_accuracy" in content
    assert b"privacy.epsilon" in content
