"""The one release of a site's validation set: sensitivity 1, the stated noise, and figures that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.evaluation.evaluate import evaluate_logits
from common.evaluation.figures import Predictions
from common.evaluation.private_counts import ReleasedCounts, ReleasePlan, release, unit_histogram
from common.evaluation.score import Score
from common.privacy.mechanism import Gaussian
from common.privacy.randomness import SeededRandomness, SystemRandomness

PLAN = ReleasePlan(("no", "yes"), ("north", "south"), 4.0)


def rows_of(seed: int, rows: int) -> tuple[Predictions, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(2, size=rows)
    logits = (3 * generator.normal(size=(rows, 2)) + 2 * np.eye(2)[targets]).astype(np.float32)
    return Predictions(logits, targets, PLAN.labels), generator.integers(2, size=rows)


@settings(max_examples=80)
@given(st.integers(0, 1000), st.lists(st.integers(0, 4), min_size=2, max_size=25))
def test_p16_a_unit_moves_the_histogram_by_at_most_1(seed: int, owners: list[int]) -> None:
    """Take out one person with all rows, or one row where rows are units: nothing else in any cell changes."""
    predictions, parts = rows_of(seed, len(owners))
    for persons in (np.array(owners), None):
        units = np.arange(len(owners)) if persons is None else persons
        whole = unit_histogram(PLAN, predictions, parts, persons)
        for unit in np.unique(units):
            kept = units != unit
            if not kept.any():
                continue
            fewer = Predictions(predictions.logits[kept], predictions.targets[kept], PLAN.labels)
            left = unit_histogram(PLAN, fewer, parts[kept], None if persons is None else persons[kept])
            moved = whole - left
            assert np.linalg.norm(moved) <= 1 + 1e-12
            assert moved.min() >= -1e-12
            assert moved.sum() == pytest.approx(1.0)


def test_p16_the_noise_is_the_plans_and_nothing_of_a_release_is_exact() -> None:
    """Standard deviation over 12,000 cells within four of its own deviations; a false alarm once in 15,000."""
    empty = np.zeros(PLAN.shape)
    cells = np.concatenate([release(PLAN, empty, SystemRandomness()).counts.ravel() for _ in range(100)])
    assert len(cells) == 12_000
    assert np.std(cells) == pytest.approx(4.0, rel=4 / (2 * 12_000) ** 0.5)
    assert abs(np.mean(cells)) < 4 * 4.0 / 12_000**0.5
    assert not np.isclose(np.std(cells / 2), 4.0, rtol=4 / (2 * 12_000) ** 0.5)
    assert PLAN.mechanism == Gaussian(4.0, 1)


class TestFigures:
    """What is said of a validation set comes from what was released."""

    def exact(self, predictions: Predictions, parts: np.ndarray) -> ReleasedCounts:
        return ReleasedCounts(PLAN, unit_histogram(PLAN, predictions, parts))

    def test_without_noise_they_are_the_scores(self) -> None:
        predictions, parts = rows_of(1, 2000)
        found = self.exact(predictions, parts)
        score = evaluate_logits(predictions.logits, predictions.targets).overall
        assert isinstance(score, Score)
        assert found.units() == 2000
        assert found.units("north") == (parts == 0).sum()
        assert found.accuracy() == pytest.approx(score.accuracy)
        assert found.macro_f1() == pytest.approx(score.macro_f1)
        assert found.calibration_error() == pytest.approx(score.expected_calibration_error, abs=1 / 30)
        south = evaluate_logits(predictions.logits[parts == 1], predictions.targets[parts == 1]).overall
        assert found.accuracy("south") == pytest.approx(south.accuracy)

    def test_with_noise_they_are_near_and_say_how_near(self) -> None:
        predictions, parts = rows_of(2, 5000)
        found = release(PLAN, unit_histogram(PLAN, predictions, parts), SeededRandomness(3))
        assert found.uncertainty() == 4.0 * 120**0.5
        assert abs(found.units() - 5000) < 4 * found.uncertainty()
        exact = float((predictions.predicted == predictions.targets).mean())
        assert found.accuracy() == pytest.approx(exact, abs=0.05)

    def test_of_an_empty_set_nothing_is_said(self) -> None:
        found = ReleasedCounts(PLAN, np.zeros(PLAN.shape))
        assert found.accuracy() is found.macro_f1() is found.calibration_error() is None

    def test_a_slice_that_was_not_planned_is_refused(self) -> None:
        with pytest.raises(BadInput, match="no slice 'east'"):
            ReleasedCounts(PLAN, np.zeros(PLAN.shape)).units("east")


@pytest.mark.parametrize(
    ("labels", "slices", "noise"), [(("a",), ("x",), 1.0), (("a", "b"), (), 1.0), (("a", "b"), ("x",), 0.0)]
)
def test_what_is_no_plan(labels: tuple[str, ...], slices: tuple[str, ...], noise: float) -> None:
    with pytest.raises(BadInput, match="evaluation release"):
        ReleasePlan(labels, slices, noise)


def test_every_part_of_a_plan_is_in_its_digest() -> None:
    others = [ReleasePlan(("yes", "no"), PLAN.slices, 4.0), ReleasePlan(PLAN.labels, ("x",), 4.0)]
    digests = {plan.digest for plan in (PLAN, *others, ReleasePlan(PLAN.labels, PLAN.slices, 5.0))}
    assert len(digests) == 4


def test_rows_outside_the_plan_are_refused() -> None:
    predictions, parts = rows_of(1, 5)
    with pytest.raises(BadInput, match="none of the plan's slices"):
        unit_histogram(PLAN, predictions, parts + 2)
    with pytest.raises(BadInput, match="not those of the plan"):
        unit_histogram(ReleasePlan(("a", "b"), ("x",), 1.0), predictions, parts)
