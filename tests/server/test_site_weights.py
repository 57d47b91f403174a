"""Inverse-variance weights: from declared facts, by noise, and by size where there is no noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.study import Study
from common.study_file import parse_study
from common.wire import SiteDescription
from server.site_weights import weighted_sites
from tests.tiny import tiny_study_text

NORTH = SiteDescription("north", 0, 1000, 1000.0, 8.0, 1e-5, 0.6)
SOUTH = SiteDescription("south", 1, 1000, 1000.0, 1.0, 1e-5, 1.2)


@pytest.fixture
def study(tiny_base: Path, tiny_data: Path) -> Study:
    """Weighted by inverse variance."""
    text = tiny_study_text(tiny_base, tiny_data) + '\n[[site]]\nname = "west"\nweight = 7.0\n'
    return parse_study(text, "tiny", ["federation.weighting=inverse-variance"])


def ratio(study: Study, one: SiteDescription, other: SiteDescription, parameters: int = 100_000) -> float:
    """Weight of one over that of the other."""
    found = weighted_sites(study, {1: one, 2: other}, parameters)
    return found[1].weight / found[2].weight


def test_half_the_noise_counts_four_times_where_noise_prevails(study: Study) -> None:
    assert ratio(study, NORTH, SOUTH) == pytest.approx(4.0, rel=1e-3)


def test_without_noise_weights_are_sizes(study: Study) -> None:
    silent, large = replace(NORTH, noise_multiplier=0.0), replace(NORTH, noise_multiplier=0.0, declared_size=3000)
    assert ratio(study, large, silent) == pytest.approx(3.0)


def test_a_weight_that_the_study_states_stays(study: Study) -> None:
    west = replace(NORTH, name="west", weight=7.0)
    assert weighted_sites(study, {1: west}, 100)[1].weight == 7.0


def test_other_weightings_are_left_alone(tiny_study: Study) -> None:
    assert weighted_sites(tiny_study, {1: NORTH, 2: SOUTH}, 100) == {1: NORTH, 2: SOUTH}
