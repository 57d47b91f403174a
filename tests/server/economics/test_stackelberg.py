"""The posted price: closed form, worked numbers, several peaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from server.economics.stackelberg import (
    Gain,
    Seller,
    equilibrium,
    log_gain,
    offers_at,
    precision_gain,
    unconstrained_log_price,
)


def sellers(costs: tuple[float, ...], caps: tuple[float, ...] | None = None) -> list[Seller]:
    """Sites 0, 1, ... with these costs and caps."""
    limits = caps or (math.inf,) * len(costs)
    return [Seller(str(i), cost, cap) for i, (cost, cap) in enumerate(zip(costs, limits, strict=True))]


def utility_at(price: float, market: list[Seller], gain: Gain) -> float:
    """The coordinator's utility, written out."""
    epsilons = np.array(list(offers_at(price, market).values()))
    return float(gain(epsilons)) - price * float(epsilons.sum())


W, C, SCALE = (3.0, 2.0, 1.0), (1.0, 2.0, 0.5), 20.0


def test_the_worked_closed_form() -> None:
    # ECONOMICS section 3b, example 1
    assert unconstrained_log_price(W, C, SCALE) == pytest.approx(1.609028, abs=1e-6)
    found = equilibrium(sellers(C), log_gain(W, SCALE))
    assert found.price == pytest.approx(unconstrained_log_price(W, C, SCALE), abs=1e-6)
    assert list(found.epsilons.values()) == pytest.approx([1.609028, 0.804514, 3.218056], abs=1e-6)
    assert list(found.payments.values()) == pytest.approx([2.588972, 1.294486, 5.177943], abs=2e-6)
    assert found.utility == pytest.approx(38.257625, abs=1e-6)


def test_the_worked_numeric_equilibrium() -> None:
    # ECONOMICS section 3b, example 2
    gain = precision_gain((1000, 2000, 4000, 1500, 3000), 1, 400, 2000, 100)
    market = sellers((3, 2, 6, 1.5, 4), (4, 2, 1, 8, 3))
    found = equilibrium(market, gain)
    assert found.price == pytest.approx(1.787223, abs=1e-6)
    assert list(found.epsilons.values()) == pytest.approx(
        [0.595741, 0.893612, 0.297871, 1.191482, 0.446806], abs=1e-6
    )
    assert found.gain / 100 == pytest.approx(0.778063, abs=1e-6)
    assert found.utility == pytest.approx(71.684142, abs=1e-6)
    assert 2000 * found.gain / (100 - found.gain) == pytest.approx(7011.564100, rel=1e-6)


def test_the_higher_of_two_peaks_is_found() -> None:
    # ECONOMICS section 3b: caps make two peaks; a local solver from below stops at the lower. It gives the higher
    # as 6.882066, from a flat maximum; the first-order condition below has its root at 6.8820915.
    gain, market = log_gain((21, 1), 50), sellers((3.25, 2.5), (3, 2.5))
    assert utility_at(5.871071, market, gain) == pytest.approx(161.630671, abs=1e-6)
    found = equilibrium(market, gain)
    assert found.price == pytest.approx(6.8820915, abs=1e-6)
    assert found.price == pytest.approx(6.882066, abs=3e-5)
    assert found.utility == pytest.approx(161.749127, abs=1e-6)
    marginal_gain = 50 * (21 / 3.25) / (1 + 2.5 + 21 * found.price / 3.25)
    assert marginal_gain == pytest.approx(2 * found.price / 3.25 + 2.5, abs=1e-6)


costs = st.lists(st.floats(0.1, 10), min_size=1, max_size=5)


@settings(deadline=None, max_examples=50)
@given(costs, st.data())
def test_search_finds_the_closed_form(prices: list[float], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(prices), max_size=len(prices)))
    scale = data.draw(st.floats(0.5, 100))
    found = equilibrium(sellers(tuple(prices)), log_gain(weights, scale))
    expected = unconstrained_log_price(weights, prices, scale)
    assert found.price == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(costs, st.data())
def test_no_price_on_a_grid_is_better(prices: list[float], data: st.DataObject) -> None:
    count = len(prices)
    caps = data.draw(st.lists(st.floats(0.1, 8), min_size=count, max_size=count))
    if data.draw(st.booleans()):
        weights = data.draw(st.lists(st.floats(0.1, 30), min_size=count, max_size=count))
        gain = log_gain(weights, data.draw(st.floats(0.5, 100)))
    else:
        sizes = data.draw(st.lists(st.integers(100, 5000), min_size=count, max_size=count))
        gain = precision_gain(sizes, 1, 400, 2000, 100)
    market = sellers(tuple(prices), tuple(caps))
    found = equilibrium(market, gain)
    dearest = max(cost * cap for cost, cap in zip(prices, caps, strict=True))
    best = max(utility_at(float(price), market, gain) for price in np.linspace(0, 1.2 * dearest, 1500))
    assert found.utility >= best - 1e-9


@settings(deadline=None, max_examples=30)
@given(costs)
def test_offers_are_best_answers_and_nobody_loses(prices: list[float]) -> None:
    market = sellers(tuple(prices), (2.0,) * len(prices))
    for seller, offered in zip(market, offers_at(3.0, market).values(), strict=True):
        surplus = 3.0 * offered - seller.cost * offered**2 / 2
        assert surplus >= 0
        for other in np.linspace(0, seller.cap, 50):
            assert surplus >= 3.0 * other - seller.cost * other**2 / 2 - 1e-12


def test_where_privacy_is_too_dear_nothing_is_bought() -> None:
    # precision is convex near 0, so a price of 0 is a local maximum, and here the best
    found = equilibrium(sellers((50.0,), (1.0,)), precision_gain((100,), 1, 400, 2000, 1))
    assert (found.price, found.utility) == (0.0, 0.0)


def test_a_gain_without_bound_has_no_best_price() -> None:
    with pytest.raises(BadInput, match="no price is best"):
        equilibrium(sellers((1.0,)), lambda epsilons: np.asarray(2 * (epsilons**2).sum(axis=-1)))


def test_sellers_that_are_none() -> None:
    with pytest.raises(BadInput, match="at least one"):
        equilibrium([], log_gain((), 1))
    with pytest.raises(BadInput, match="distinct names"):
        equilibrium([Seller("a", 1), Seller("a", 2)], log_gain((1, 1), 1))
    for cost, cap in ((0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (math.nan, 1.0)):
        with pytest.raises(BadInput, match="seller a"):
            Seller("a", cost, cap)
