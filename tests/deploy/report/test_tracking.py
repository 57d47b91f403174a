"""Trackers: what is copied, and clear words where one is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from common.errors import BadInput, NotYet
from deploy.report.reading import read_run
from deploy.report.tracking import figures_of_round, tracker
from tests.deploy.report.samples import write_run


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
    with pytest.raises(BadInput, match=r"must be one of mlflow, tensorboard"):
        tracker("elsewhere")
    with pytest.raises(NotYet, match=r"not yet"):
        tracker("wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'hanse\[mlflow\]'"):
        tracker("mlflow")


def test_tensorboard_gets_a_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    directory = write_run(tmp_path / "one")
    tracker("tensorboard")(read_run(directory), directory)
    assert list((directory / "tensorboard").glob("events.out.tfevents.*"))
