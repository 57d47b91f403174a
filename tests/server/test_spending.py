"""What a site has spent: the plan's mechanism, every round in full, at most the budget it was calibrated to."""

from __future__ import annotations

import pytest

from common.privacy.accounting import epsilon, noise_multiplier_for
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.schedule import planned_steps, schedule
from common.study import Study
from common.wire import SiteDescription
from server.spending import planned_mechanism, spent_epsilon


def site_of(study: Study, declared_size: int, target: float) -> SiteDescription:
    """A site that is calibrated as a real one is."""
    delta = study.delta_of(declared_size)
    noise = noise_multiplier_for(target, delta, [(study.privacy.batch_size / declared_size, planned_steps(study))])
    return SiteDescription("a", 0, declared_size, 1.0, target, delta, noise)


def without_privacy(study: Study) -> Study:
    """The same study with privacy off."""
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"enabled": False})})


@pytest.mark.parametrize(("declared_size", "target"), [(64, 8.0), (1000, 1.0), (8, 3.0)])
def test_spent_epsilon_rises_to_the_budget_and_not_beyond(
    tiny_study: Study, declared_size: int, target: float
) -> None:
    site = site_of(tiny_study, declared_size, target)
    path = [spent_epsilon(tiny_study, site, planned.number) for planned in schedule(tiny_study)]
    assert all(value is not None for value in path)
    assert path == sorted(path)  # type: ignore[type-var]  # none is None
    assert len(set(path)) == len(path)
    last = path[-1]
    assert last is not None
    assert 0.98 * target < last <= target


def test_spent_epsilon_is_that_of_all_steps_so_far(tiny_study: Study) -> None:
    site, steps = site_of(tiny_study, 100, 4.0), 0
    for planned in schedule(tiny_study):
        steps += planned.steps
        mechanism = SampledGaussian(8 / 100, site.noise_multiplier, steps)
        assert spent_epsilon(tiny_study, site, planned.number) == pytest.approx(
            epsilon(mechanism, site.delta), rel=1e-3
        )


def test_the_planned_mechanism_follows_from_declared_facts_alone(tiny_study: Study) -> None:
    site = site_of(tiny_study, 100, 4.0)
    assert planned_mechanism(tiny_study, site, 3) == SampledGaussian(0.08, site.noise_multiplier, 3)


def test_without_privacy_there_is_no_epsilon_and_the_mechanism_says_so(tiny_study: Study) -> None:
    site, open_study = site_of(tiny_study, 100, 4.0), without_privacy(tiny_study)
    assert spent_epsilon(open_study, site, 1) is None
    assert isinstance(planned_mechanism(open_study, site, 3), NotPrivate)
