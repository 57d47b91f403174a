"""Sampler tests: Poisson sampling passes at the stated rate; every other sampler is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from common.audit.hypothesis_tests import StatisticalTest
from common.audit.sampler_tests import SamplerCounts, count_batches, sampler_tests
from common.errors import BadInput
from common.privacy.randomness import SystemRandomness

Table = np.ndarray


def _poisson(draw: np.random.Generator, steps: int = 200, units: int = 1000, rate: float = 0.02) -> Table:
    return draw.random((steps, units)) < rate


def _failed(tests: tuple[StatisticalTest, ...]) -> set[str]:
    return {test.name for test in tests if not test.passed}


@pytest.mark.parametrize(("units", "rate", "steps"), [(100, 0.01, 200), (1000, 0.001, 300), (500, 0.1, 60)])
def test_poisson_sampling_fails_at_most_twice_as_often_as_stated(units: int, rate: float, steps: int) -> None:
    """600 runs at a family rate of 4 %; a true rate of 4 % passes 44 once in 1,000, and the bound allows 8 %."""
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(600):
        alarms += bool(_failed(sampler_tests(count_batches(_poisson(draw, steps, units, rate)), rate, 0.04)))
    assert 2 < alarms <= 48


def test_the_product_s_own_sampler_passes() -> None:
    """From the operating system's randomness: fails at most twice in 1,000 runs of this test."""
    randomness, table = SystemRandomness(), np.zeros((400, 1500), dtype=bool)
    for row in table:
        row[randomness.poisson_batch(1500, 0.01)] = True
    assert not _failed(sampler_tests(count_batches(table), 0.01))


def _shuffled(draw: np.random.Generator, steps: int = 50, units: int = 1000, size: int = 20) -> Table:
    """One epoch: each unit once, batches of one size."""
    table = np.zeros((steps, units), dtype=bool)
    for step, members in enumerate(draw.permutation(units).reshape(steps, size)):
        table[step, members] = True
    return table


def _fixed_size(draw: np.random.Generator) -> Table:
    table = np.zeros((200, 1000), dtype=bool)
    for row in table:
        row[draw.choice(1000, 20, replace=False)] = True
    return table


def _never_empty(draw: np.random.Generator) -> Table:
    """Empty batches drawn again, at n q = 1."""
    rows = [row for row in _poisson(draw, 900, 100, 0.01) if row.any()]
    return np.array(rows[:300])


def _copies(draw: np.random.Generator) -> Table:
    """Eight rows of one person enter together: counts per row are right, batches spread too widely."""
    return np.repeat(_poisson(draw, 200, 125), 8, axis=1)


def _favoured(draw: np.random.Generator) -> Table:
    """Half of the units twice as often as the accountant thinks, the other half hardly ever."""
    return draw.random((200, 1000)) < np.where(np.arange(1000) < 500, 0.038, 0.002)


SAMPLERS: dict[str, tuple[Callable[[np.random.Generator], Table], float, set[str]]] = {
    "one shuffled epoch": (_shuffled, 0.02, {"variance of batch sizes", "variance of unit counts"}),
    "batches of one size": (_fixed_size, 0.02, {"variance of batch sizes"}),
    "empty batches drawn again": (_never_empty, 0.01, {"empty batches", "inclusions"}),
    "rows of a person together": (_copies, 0.02, {"variance of batch sizes"}),
    "some units favoured": (_favoured, 0.02, {"variance of unit counts"}),
    "a rate half as high": (_poisson, 0.01, {"inclusions"}),
    "a rate twice as high": (_poisson, 0.04, {"inclusions"}),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_sampler_is_found(name: str) -> None:
    sampler, rate, by = SAMPLERS[name]
    for seed in range(10):
        found = _failed(sampler_tests(count_batches(sampler(np.random.default_rng(seed))), rate))
        assert by <= found


def test_a_rate_5_percent_off_shows_from_some_thousand_inclusions() -> None:
    """90,000 inclusions at 5 % off: 15 deviations. At 400 inclusions it cannot be seen."""
    draw = np.random.default_rng(1)
    many, few = _poisson(draw, 2000, 2000, 0.0225), _poisson(draw, 20, 1000, 0.02)
    assert "inclusions" in _failed(sampler_tests(count_batches(many), 0.0225 * 1.05))
    assert "inclusions" not in _failed(sampler_tests(count_batches(few), 0.02 * 1.05))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: count_batches(np.zeros((0, 3))),
        lambda: count_batches([True]),
        lambda: sampler_tests(count_batches([[True]]), 1.0),
        lambda: sampler_tests(SamplerCounts(np.array([2]), np.array([1])), 0.1),
    ],
)
def test_what_cannot_be_tested_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        wrong()
