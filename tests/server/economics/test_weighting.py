"""Inverse-variance weights: the worked market, and that no other weights do better."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.weighting import (
    combined_precision,
    dp_sgd_variance,
    gap_closed,
    gaussian_release_constant,
    inverse_variance_weights,
    precision,
)

SIZES = (1000, 2000, 4000, 1500, 3000, 800)
EPSILONS = (4, 2, 1, 8, 2, 8)
MARKET = {str(i): precision(n, e, 1, 20_000) for i, (n, e) in enumerate(zip(SIZES, EPSILONS, strict=True))}


def test_the_worked_market() -> None:
    # ECONOMICS section 3a
    expected = [444.444444, 571.428571, 666.666667, 1241.379310, 1125, 575.280899]
    assert [float(value) for value in MARKET.values()] == pytest.approx(expected, abs=1e-6)
    assert MARKET["0"] == Fraction(4000, 9)  # exactly


def test_weights_by_size_waste_a_quarter_of_the_purchase() -> None:
    bought = {site: MARKET[site] for site in "1234"}
    best = inverse_variance_weights(bought)
    assert combined_precision(bought, best) == pytest.approx(3604.474548, abs=1e-6)
    by_size = {site: float(SIZES[int(site)]) for site in "1234"}
    assert combined_precision(bought, by_size) == pytest.approx(2701.378254, abs=1e-6)
    assert gap_closed(sum(bought.values()), 500) == pytest.approx(0.878182, abs=1e-6)
    assert gap_closed(sum(MARKET.values()), 500) == pytest.approx(0.902424, abs=1e-6)


precisions = st.dictionaries(st.sampled_from("abcdef"), st.floats(1e-3, 1e6), min_size=1)


@given(precisions)
def test_weights_sum_to_one_and_precisions_add(values: dict[str, float]) -> None:
    weights = inverse_variance_weights(values)
    assert math.fsum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert combined_precision(values, weights) == pytest.approx(math.fsum(values.values()), rel=1e-9)


@given(precisions, st.lists(st.floats(1e-3, 1), min_size=6, max_size=6))
def test_no_other_weights_are_better(values: dict[str, float], others: list[float]) -> None:
    weights = dict(zip(values, others, strict=False))
    assert combined_precision(values, weights) <= math.fsum(values.values()) * (1 + 1e-9)


def test_the_weighted_mean_has_the_variance_that_is_claimed() -> None:
    # 20,000 draws: the variance's relative standard error is 1 %, so 4 % fails by chance once in 16,000
    chooser = np.random.default_rng(8)
    deviations = {site: float(value) ** -0.5 for site, value in MARKET.items()}
    draws = {site: chooser.normal(0, d, 20_000) for site, d in deviations.items()}
    weights = inverse_variance_weights(MARKET)
    mean = sum(weights[site] * draws[site] for site in MARKET)
    assert 1 / np.var(mean) == pytest.approx(float(sum(MARKET.values())), rel=0.04)


@given(st.integers(1, 10**6), st.floats(0.01, 50), st.floats(0.01, 50))
def test_more_data_and_more_epsilon_are_worth_more(size: int, epsilon: float, more: float) -> None:
    here = precision(size, epsilon, 1, 20_000)
    assert precision(size + 1, epsilon, 1, 20_000) > here
    assert precision(size, epsilon + more, 1, 20_000) > here
    assert here < size  # never worth more than its data without noise


def test_noise_constants_by_hand() -> None:
    assert gaussian_release_constant(100, 2.0, 1e-5) == pytest.approx(800 * math.log(125_000))
    assert dp_sgd_variance(100, 1.5, 2.0, 60, 40) == pytest.approx(100 * 0.05**2 / 40)


@pytest.mark.parametrize(
    ("size", "epsilon", "spread", "noise"),
    [(0, 1, 1, 1), (1, 0, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1), (1, math.inf, 1, 1), (1, 1, 0, 0)],
)
def test_what_has_no_precision(size: int, epsilon: float, spread: float, noise: float) -> None:
    with pytest.raises(BadInput, match="precision: "):
        precision(size, epsilon, spread, noise)


def test_weights_of_nothing() -> None:
    with pytest.raises(BadInput, match="at least one"):
        inverse_variance_weights({})
    with pytest.raises(BadInput, match="greater than 0"):
        inverse_variance_weights({"a": 0.0})
    for weights in ({}, {"b": 1.0}, {"a": -1.0}, {"a": 0.0}):
        with pytest.raises(BadInput, match="one for each precision"):
            combined_precision({"a": 1.0}, weights)
    with pytest.raises(BadInput, match="gap_closed"):
        gap_closed(1, 0)
