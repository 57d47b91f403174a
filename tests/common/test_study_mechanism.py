"""What a study will release follows from plan and declared facts, and stays within its epsilon."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.privacy.accounting import epsilon, filter_cap, rdp_at_order
from common.privacy.mechanism import Gaussian, NotPrivate, SampledGaussian
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_mechanism import (
    calibrated_noise_multiplier,
    central_mechanism,
    central_noise_multiplier,
    round_mechanism,
    sample_rate,
    study_mechanism,
)


def with_unit(study: Study, unit: str) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"unit": unit})})


def test_p05_noise_is_calibrated_with_the_accountant_of_the_budget(tiny_study: Study) -> None:
    by_plan = calibrated_noise_multiplier(tiny_study, "north", 80)
    by_filter = calibrated_noise_multiplier(tiny_study, "north", 80, order=8)
    delta = tiny_study.delta_of(80)
    assert 7.9 < epsilon(study_mechanism(tiny_study, 80, by_plan), delta) <= 8.0
    cap = filter_cap(8.0, delta, 8)
    assert 0.999 * cap < rdp_at_order(study_mechanism(tiny_study, 80, by_filter), 8) <= cap
    assert by_filter > by_plan


def test_the_rounds_add_up_to_the_study(tiny_study: Study) -> None:
    noise = calibrated_noise_multiplier(tiny_study, "north", 80)
    assert sample_rate(tiny_study, 80) == 0.1
    assert round_mechanism(tiny_study, 80, noise, 3) == SampledGaussian(0.1, noise, 3)
    assert study_mechanism(tiny_study, 80, noise) == SampledGaussian(0.1, noise, planned_steps(tiny_study))


def test_p18_without_privacy_the_mechanism_says_so(tiny_study: Study) -> None:
    plain = tiny_study.model_copy(update={"privacy": tiny_study.privacy.model_copy(update={"enabled": False})})
    assert calibrated_noise_multiplier(plain, "north", 80) == 0.0
    assert round_mechanism(plain, 80, 0.0, 3) == NotPrivate("privacy.enabled = false")
    assert epsilon(study_mechanism(plain, 80, 0.0), 1e-5) == float("inf")


def test_p19_under_central_privacy_sites_release_without_and_the_coordinator_with_noise(tiny_study: Study) -> None:
    central = with_unit(tiny_study, "institution")
    assert calibrated_noise_multiplier(central, "north", 80) == 0.0
    assert isinstance(round_mechanism(central, 80, 0.0, 3), NotPrivate)
    rounds = len(schedule(central))
    whole = central_mechanism(central, rounds)
    assert whole == Gaussian(central_noise_multiplier(central), rounds)
    assert 7.9 < epsilon(whole, central.delta_of(central.data.sites)) <= 8.0


@pytest.mark.parametrize("declared_size", [40, 4000])
def test_a_site_with_an_epsilon_of_its_own_is_calibrated_to_it(tiny_base: Path, declared_size: int) -> None:
    from common.study_file import parse_study
    from tests.tiny import tiny_study_text

    text = tiny_study_text(tiny_base, tiny_base) + '\n[[site]]\nname = "north"\nepsilon = 1.0\n'
    study = parse_study(text, "tiny")
    noise = {name: calibrated_noise_multiplier(study, name, declared_size) for name in ("north", "south")}
    assert noise["north"] > noise["south"]
    delta = study.delta_of(declared_size)
    assert epsilon(study_mechanism(study, declared_size, noise["north"]), delta) <= 1.0
