"""The attacks by themselves, on a tiny model: what a correct pipeline lets them see, and what no privacy does."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.audit.black_box import black_box_bound
from deploy.audit.inversion import inversion_facts
from deploy.audit.membership_attack import TwinTraining, membership_attack
from deploy.audit.registration import guessing_for
from deploy.audit.site_copy import SiteCopy
from deploy.audit.text_canaries import joined, random_texts
from deploy.audit.white_box import observe, white_box_bounds
from tests.evidence.audit_measurements import DECLARED, STEPS, TARGETS, small_copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> SiteCopy:
    return small_copy(tmp_path_factory.mktemp("small"), 4.0)


def test_five_repetitions_of_a_correct_pipeline(copy: SiteCopy) -> None:
    """A bound passes a true claim with chance 0.05, three of five times with 0.0012: 0.005 for all four."""
    runs = []
    for seed in range(5):
        seen = observe(copy, 200, seed)
        claim = (copy.epsilon, copy.delta)
        runs.append(white_box_bounds(seen, copy.claimed, claim, guessing_for(200, 4.0), 0.95))
    for bounds in zip(*runs, strict=True):
        assert sum(bound.exceeds for bound in bounds) <= 2, bounds[0].method
    reached = sorted(bounds[0].epsilon or 0.0 for bounds in runs)[2] / copy.epsilon
    assert reached > 0.6 * TARGETS["component"][4.0]  # a fifth of the canaries of the recorded measurement


def test_observations_are_what_the_loop_did(copy: SiteCopy) -> None:
    seen = observe(copy, 40, seed=3)
    assert seen.projections.shape == seen.drawn.shape == (STEPS, 40)
    assert not seen.drawn[:, ~seen.included].any()
    rate = seen.drawn[:, seen.included].mean()
    assert abs(rate - copy.claimed.sample_rate) < 6 * (0.04 * 0.96 / STEPS / 10) ** 0.5
    shift = seen.projections[seen.drawn].mean() - seen.projections[~seen.drawn].mean()
    assert abs(shift - 1) < 6 * copy.claimed.noise_multiplier / seen.drawn.sum() ** 0.5
    assert len(seen.batches) == STEPS
    assert copy.facts.declared_size == DECLARED


def test_each_bound_says_its_ceiling(copy: SiteCopy) -> None:
    seen = observe(copy, 40, seed=4)
    bounds = white_box_bounds(seen, copy.claimed, (copy.epsilon, copy.delta), guessing_for(40, 4.0), 0.95)
    assert [bound.method for bound in bounds] == [
        "component", "profile test", "one run", "one run, curve", "Gaussian",
    ]  # fmt: skip
    assert all(bound.ceiling and bound.detail for bound in bounds)
    assert "can never contradict this claim" in bounds[2].ceiling


def test_the_black_box_guesses_inserted_texts(copy: SiteCopy) -> None:
    """A correct pipeline at epsilon 4 is contradicted with chance 1e-6."""
    bound = black_box_bound(copy, 100, 20, 1, confidence=1 - 1e-6)
    assert not bound.exceeds
    assert "of 20 guesses right on 100 inserted texts" in bound.detail


def test_inserted_texts_are_more_units(copy: SiteCopy) -> None:
    more = random_texts(copy.texts, 28, 2, 10, seed=1)
    chosen = np.arange(10) < 3
    both = joined(copy.texts, more, chosen)
    assert both.units == copy.texts.units + 3
    assert both.tokens[both.offsets[-2] :].tolist() == more.tokens[more.offsets[2] : more.offsets[3]].tolist()
    assert both.labels[-3:].tolist() == more.labels[:3].tolist()


def test_words_are_read_from_a_step_without_noise_and_not_from_one_with(copy: SiteCopy) -> None:
    """Recovered words with noise are near chance; the interval misses it once in a million."""
    off, on, chance = inversion_facts(copy.texts, 2, copy.claimed, seed=1, confidence=1 - 1e-6)
    assert off.value == 1.0
    assert on.lower is not None
    assert chance.value is not None
    assert on.lower < 1.2 * chance.value
    assert on.value is not None
    assert on.value < 0.6


@pytest.mark.slow
def test_membership_inference_works_on_the_twin_alone(copy: SiteCopy) -> None:
    """The private model is blamed with chance 1e-6; the twin's area is far from chance."""
    training = TwinTraining(epochs=25, learning_rate=2e-3)
    found = membership_attack(copy, 800, shadows=1, seed=2, confidence=1 - 1e-6, training=training)
    assert not any(bound.exceeds for bound in found.bounds)
    assert "not measurable" in found.bounds[0].detail
    facts = {fact.name: fact for fact in found.facts}
    private = facts["area under the curve, private model"]
    twin = facts["area under the curve, twin without privacy"]
    assert private.lower is not None
    assert twin.lower is not None
    assert private.lower < 0.6
    assert twin.lower > 0.55
