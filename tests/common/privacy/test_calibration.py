"""Calibration: one-sided always, not wasteful, and quick enough to sit in a command line."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.privacy import accounting
from common.privacy.mechanism import Composition, SampledGaussian
from tests.common.privacy.golden_values import CALIBRATED, Calibrated

ids = [f"epsilon{row.epsilon:g}" for row in CALIBRATED]


def at(noise: float, *phases: tuple[float, int]) -> Composition:
    return Composition(tuple(SampledGaussian(rate, noise, steps) for rate, steps in phases))


@pytest.mark.parametrize("row", CALIBRATED, ids=ids)
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_golden_noise(row: Calibrated, accountant: accounting.Accountant) -> None:
    phase = (row.sample_rate, row.steps)
    noise = accounting.noise_multiplier_for(row.epsilon, row.delta, [phase], accountant)
    golden = row.by_pld if accountant == "pld" else row.by_rdp
    assert noise == pytest.approx(golden, rel=2e-4)
    assert accounting.epsilon(at(noise, phase), row.delta, accountant) <= row.epsilon
    assert accounting.epsilon(at(0.995 * noise, phase), row.delta, accountant) > row.epsilon


@pytest.mark.parametrize("row", CALIBRATED, ids=ids)
def test_golden_epsilon_at_the_noise_that_rdp_asks_for(row: Calibrated) -> None:
    mechanism = at(row.by_loose_rdp, (row.sample_rate, row.steps))
    assert accounting.epsilon(mechanism, row.delta) == pytest.approx(row.pld_at_loose_rdp, rel=1e-4)


@pytest.mark.parametrize("row", CALIBRATED, ids=ids)
def test_takes_less_than_two_seconds_of_work(row: Calibrated) -> None:
    """Processor time, not the clock: other programs may be running."""
    start = time.process_time()
    accounting.noise_multiplier_for(row.epsilon, row.delta, [(row.sample_rate, row.steps)])
    assert time.process_time() - start < 2.0


def test_several_phases_share_one_noise() -> None:
    phases = ((0.02, 300), (0.05, 40), (1.0, 1))
    noise = accounting.noise_multiplier_for(4.0, 1e-5, phases)
    assert accounting.epsilon(at(noise, *phases), 1e-5) <= 4.0
    assert accounting.epsilon(at(0.995 * noise, *phases), 1e-5) > 4.0


@given(st.floats(0.3, 20.0), st.sampled_from([1e-9, 1e-6, 1e-5]), st.floats(0.001, 1.0), st.integers(1, 20_000))
@settings(max_examples=25, deadline=None)
def test_never_above_and_never_wasteful(epsilon: float, delta: float, rate: float, steps: int) -> None:
    for accountant in ("pld", "rdp"):
        noise = accounting.noise_multiplier_for(epsilon, delta, [(rate, steps)], accountant)
        assert accounting.epsilon(at(noise, (rate, steps)), delta, accountant) <= epsilon
        assert accounting.epsilon(at(0.995 * noise, (rate, steps)), delta, accountant) > epsilon


@pytest.mark.parametrize("order", [4, 6, 12])
def test_filter_noise_fits_the_cap_at_its_order(order: int) -> None:
    phases = ((0.02, 300), (0.01, 100))
    noise = accounting.noise_multiplier_for(4.0, 1e-5, phases, "rdp", order)
    cap = accounting.filter_cap(4.0, 1e-5, order)
    assert accounting.rdp_at_order(at(noise, *phases), order) <= cap
    assert accounting.rdp_at_order(at(0.995 * noise, *phases), order) > cap
    assert noise >= accounting.noise_multiplier_for(4.0, 1e-5, phases, "rdp") * (1 - 2e-4)


def test_filter_order_that_can_grant_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="order = 2"):
        accounting.noise_multiplier_for(8.0, 1e-5, [(0.01, 10)], "rdp", 2)


@pytest.mark.parametrize("phases", [[], [(0.01, 0)], [(0.0, 10)]])
def test_nothing_released_has_no_smallest_noise(phases: list[tuple[float, int]]) -> None:
    with pytest.raises(BadInput, match="phases"):
        accounting.noise_multiplier_for(1.0, 1e-5, phases)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1.0, 1e-5, [(0.1, 1)], "prv"), "accountant"),
        ((1.0, 1e-5, [(0.1, 1)], "pld", 6), "order"),
        ((0.0, 1e-5, [(0.1, 1)]), "epsilon"),
        ((math.nan, 1e-5, [(0.1, 1)]), "epsilon"),
        ((1.0, 1e-13, [(0.1, 1)]), "delta"),
        ((1.0, 1e-5, [(2.0, 1)]), "sample_rate"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[object, ...], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        accounting.noise_multiplier_for(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [0.002, 100.0])
def test_extreme_budgets_end(epsilon: float) -> None:
    """RDP with orders up to 1024 cannot say 0.002 at delta 1e-5; PLD can."""
    noise = accounting.noise_multiplier_for(epsilon, 1e-5, [(0.01, 100)])
    assert accounting.epsilon(at(noise, (0.01, 100)), 1e-5) <= epsilon
    assert accounting.epsilon(at(0.995 * noise, (0.01, 100)), 1e-5) > epsilon


def test_a_budget_out_of_reach_is_told() -> None:
    with pytest.raises(BadInput, match="not reached"):
        accounting.noise_multiplier_for(0.002, 1e-5, [(0.01, 100)], "rdp")
