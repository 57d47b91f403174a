"""The forecast says what the run will then do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.base_model import resolve_base
from common.errors import BadInput
from common.model import build_classifier
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import virtual_sites
from deploy.forecast import Forecast, forecast, print_forecast
from tests.tiny import tiny_study_text


@pytest.fixture(scope="module")
def study(tiny_base: Path, tiny_data: Path) -> Study:
    """The tiny study."""
    return parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny")


@pytest.fixture(scope="module")
def found(study: Study) -> Forecast:
    """The tiny study's forecast."""
    return forecast(study)


def test_epsilon_rises_by_round_to_the_budget(found: Forecast, study: Study) -> None:
    for site in found.sites:
        assert len(site.epsilon_by_round) == len(schedule(study)) == found.rounds
        assert list(site.epsilon_by_round) == sorted(set(site.epsilon_by_round))
        assert 0.98 * 8.0 < site.epsilon_by_round[-1] <= 8.0
        assert site.sample_rate == pytest.approx(8 / site.declared_size)
        assert site.delta == study.delta_of(site.declared_size)


def test_sites_are_the_runs_sites(found: Forecast, study: Study) -> None:
    sites = virtual_sites(study).sites
    assert [(s.name, s.declared_size) for s in found.sites] == [(s.name, s.declared_size) for s in sites]


def test_bytes_steps_and_digest_follow_from_the_study(found: Forecast, study: Study) -> None:
    weights = build_classifier(study).weights()
    assert found.trainable_parameters == sum(value.size for value in weights.values())
    assert found.bytes_per_round == 2 * 4 * found.trainable_parameters * len(found.sites)
    assert found.steps == planned_steps(study)
    assert found.example_gradients == 2 * 2 * 8 * 4  # rounds, steps, batch, sites; the warm start is left out
    assert found.digest == study.digest(resolve_base(study.model.base).digest)
    assert found.rough_seconds > 0


def test_json_survives(found: Forecast) -> None:
    read = json.loads(json.dumps(found.to_json()))
    assert read["digest"] == found.digest
    assert len(read["sites"]) == 4


def test_people_see_noise_and_epsilon_of_every_site(found: Forecast, capsys: pytest.CaptureFixture[str]) -> None:
    print_forecast(found)
    shown = capsys.readouterr().out
    for site in found.sites:
        assert site.name in shown
        assert f"{site.noise_multiplier:.4f}" in shown
        assert f"{site.epsilon_by_round[-1]:.3f}" in shown
    assert found.digest[:16] in shown
    assert "NOT PRIVATE" not in shown


def test_without_privacy_no_epsilon_is_shown(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    open_study = study.model_copy(update={"privacy": study.privacy.model_copy(update={"enabled": False})})
    found = forecast(open_study)
    assert not found.private
    assert all(site.epsilon_by_round == () and site.noise_multiplier == 0 for site in found.sites)
    print_forecast(found)
    shown = capsys.readouterr().out
    assert "NOT PRIVATE: privacy.enabled = false" in shown
    assert "epsilon" not in shown


@pytest.mark.parametrize("override", ["data.source=missing.csv", "model.base=./missing"])
def test_data_or_model_that_is_missing_is_refused(tiny_base: Path, tiny_data: Path, override: str) -> None:
    study = parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny", overrides=[override])
    with pytest.raises(BadInput, match="no such"):
        forecast(study)
