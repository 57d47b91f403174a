"""Rényi accounting against Opacus, against quadrature, and the worked example of the filter."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from opacus.accountants.analysis import rdp as opacus_rdp
from scipy import integrate

from common.errors import BadInput
from common.privacy import rdp
from common.privacy.mechanism import Composition, Gaussian, Laplace, NotPrivate, SampledGaussian
from tests.common.privacy.golden_values import MIXED, ROWS, Mixed, Row, whole


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_golden_epsilon_and_order(row: Row) -> None:
    found = rdp.best_order(row.mechanism, row.delta)
    assert found.epsilon == pytest.approx(row.rdp, rel=5e-5)
    assert found.order == row.rdp_order


@pytest.mark.parametrize("mixed", MIXED, ids=[mixed.name for mixed in MIXED])
def test_golden_epsilon_of_compositions(mixed: Mixed) -> None:
    """H5 was computed by dp_accounting, whose fractional orders are loose (trap 1): an upper bound there."""
    found = rdp.epsilon(whole(mixed), 1e-5)
    if mixed.name == "H5":
        assert mixed.rdp - 0.003 < found < mixed.rdp
    else:
        assert found == pytest.approx(mixed.rdp, rel=5e-5)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_equals_opacus_at_the_same_orders(row: Row) -> None:
    """Opacus stops its series at terms of e^-30, so per step it is off by up to 1e-12 at order 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = opacus_rdp.compute_rdp(
            q=row.sample_rate, noise_multiplier=row.noise, steps=row.steps, orders=list(rdp.ORDERS)
        )
        theirs, _ = opacus_rdp.get_privacy_spent(orders=list(rdp.ORDERS), rdp=total, delta=row.delta)
    assert rdp.epsilon(row.mechanism, row.delta) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize(
    ("sample_rate", "noise", "order"),
    [(0.01, 1.0, 7), (0.04, 0.8, 3), (0.5, 5.0, 2), (0.02, 0.5, 2), (0.001, 0.6, 4), (0.3, 0.4, 5)],
)
def test_integer_order_equals_quadrature_of_the_definition(sample_rate: float, noise: float, order: int) -> None:
    def integrand(x: float) -> float:
        density = math.exp(-x * x / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
        ratio = 1 - sample_rate + sample_rate * math.exp((2 * x - 1) / (2 * noise**2))
        return float(density * ratio**order)

    points = np.linspace(-10 * noise, order + 10 * noise, 60)
    area = sum(integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in itertools.pairwise(points))
    one = SampledGaussian(sample_rate, noise, 1)
    assert rdp.rdp_at_order(one, order) == pytest.approx(math.log(area) / (order - 1), rel=1e-8)


def test_laplace_equals_quadrature_of_the_definition() -> None:
    scale, order = 2.0, 5
    area = integrate.quad(
        lambda x: math.exp(-order * abs(x - 1) / scale + (order - 1) * abs(x) / scale) / (2 * scale),
        -80,
        80,
        points=[0, 1],
        epsabs=0,
    )[0]
    assert rdp.rdp_at_order(Laplace(scale, 3), order) == pytest.approx(3 * math.log(area) / 4, rel=1e-9)


def test_trap01_integer_orders_agree_with_dp_accounting() -> None:
    """At fractional orders dp_accounting 0.6 is loose; at integer orders and q = 1 all agree."""
    from dp_accounting import dp_event
    from dp_accounting.rdp import rdp_privacy_accountant as theirs

    orders = [2, 3, 7, 32, 64, 256, 1024]
    for sample_rate, noise in [(0.25, 2.0), (0.04, 0.8), (1.0, 3.0)]:
        accountant = theirs.RdpAccountant(orders)
        accountant.compose(dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise)), 10)
        mine = [rdp.rdp_at_order(SampledGaussian(sample_rate, noise, 10), order) for order in orders]
        assert mine == pytest.approx(list(accountant._rdp), rel=1e-9)


def test_trap05_a_large_delta_is_clamped_at_zero() -> None:
    assert rdp.epsilon(Gaussian(50.0, 1), 0.05) == 0.0


def test_trap06_long_orders_serve_small_epsilons() -> None:
    """Sigma 40: 0.18933 with orders up to 63, 0.16214 at order 96."""
    found = rdp.best_order(SampledGaussian(0.05, 40.0, 1000), 1e-6)
    assert found == (pytest.approx(0.16214, rel=5e-5), 96.0)
    assert math.isfinite(rdp.rdp_at_order(SampledGaussian(0.05, 40.0, 1000), rdp.LARGEST_ORDER))


@pytest.mark.parametrize("order", [1, 0, -3, 1025, 2.0, 5.5, True])
def test_trap06_other_orders_are_refused(order: object) -> None:
    with pytest.raises(BadInput, match="order"):
        rdp.rdp_at_order(Gaussian(1.0, 1), order)  # type: ignore[arg-type]


def test_trap12_the_conversion_is_the_named_one() -> None:
    """Mironov's Proposition 3 gives more; ours is Proposition 12, minimised over the grid."""
    one = Gaussian(1.0, 1)
    mironov = min(order / 2 + math.log(1e5) / (order - 1) for order in rdp.ORDERS)
    ours = min(order / 2 + math.log(1 - 1 / order) - math.log(1e-5 * order) / (order - 1) for order in rdp.ORDERS)
    assert rdp.epsilon(one, 1e-5) == pytest.approx(ours, abs=1e-12)
    assert ours < mironov
    assert "Proposition 12" in rdp.CONVERSION


def test_trap14_edges() -> None:
    for nothing in (SampledGaussian(0.1, 1.0, 0), SampledGaussian(0.0, 1.0, 9), Composition(())):
        assert rdp.epsilon(nothing, 1e-5) == 0.0
        assert rdp.rdp_at_order(nothing, 6) == 0.0
        assert rdp.delta(nothing, 0.0) == 0.0
    for lost in (SampledGaussian(0.1, 0.0, 1), Gaussian(0.0, 1), Laplace(0.0, 1), NotPrivate("no noise")):
        assert rdp.epsilon(lost, 1e-5) == math.inf
        assert rdp.rdp_at_order(lost, 6) == math.inf
        assert rdp.delta(lost, 1.0) == 1.0


def test_delta_and_epsilon_are_inverse() -> None:
    mechanism = SampledGaussian(0.01, 1.0, 1000)
    assert rdp.delta(mechanism, rdp.epsilon(mechanism, 1e-5)) == pytest.approx(1e-5, rel=1e-9)


# The worked filter: epsilon 3, delta 1e-5, order 6. (name, request, cost, total if admitted, admitted)
WORKED = (
    ("R1", SampledGaussian(0.02, 1.0, 300), 0.83031, 0.83031, True),
    ("R2", SampledGaussian(0.02, 0.9, 150), 1.02134, 1.85164, False),
    ("R3", SampledGaussian(0.01, 1.2, 500), 0.15898, 0.98929, True),
    ("R4", Gaussian(8.0, 1), 0.04688, 1.03616, True),
    ("R5", SampledGaussian(0.02, 1.0, 100), 0.27677, 1.31293, False),
)


def test_filter_worked_example() -> None:
    cap = rdp.filter_cap(3.0, 1e-5, 6)
    assert cap == pytest.approx(1.23809, abs=5e-6)
    spent = 0.0
    for name, request, cost, total, admitted in WORKED:
        asked = rdp.rdp_at_order(request, 6)
        assert asked == pytest.approx(cost, abs=5e-6), name
        assert spent + asked == pytest.approx(total, abs=6e-6), name
        assert (spent + asked <= cap) == admitted, name
        if admitted:
            spent += asked


def test_filter_cap_is_the_conversion_turned_round() -> None:
    for order in (3, 6, 40, 1024):
        rho = rdp.filter_cap(8.0, 1e-5, order)
        back = rho + math.log(1 - 1 / order) - math.log(1e-5 * order) / (order - 1)
        assert back == pytest.approx(8.0, abs=1e-12)


def test_order_two_can_never_grant_eight() -> None:
    assert rdp.filter_cap(8.0, 1e-5, 2) < 0


def test_best_filter_order_takes_the_smallest_share() -> None:
    forecast = SampledGaussian(0.02, 1.0, 300)
    best = rdp.best_filter_order(forecast, 3.0, 1e-5)

    def share(order: int) -> float:
        return rdp.rdp_at_order(forecast, order) / rdp.filter_cap(3.0, 1e-5, order)

    assert best == 6
    assert share(best) == min(share(order) for order in range(6, 64))


def test_best_filter_order_of_a_free_mechanism_has_the_largest_cap() -> None:
    assert rdp.best_filter_order(Composition(()), 3.0, 1e-5) == rdp.LARGEST_ORDER


@pytest.mark.parametrize(("mechanism", "epsilon"), [(NotPrivate("x"), 3.0), (Gaussian(9.0, 1), 1e-4)])
def test_best_filter_order_refuses_what_no_order_grants(mechanism: object, epsilon: float) -> None:
    with pytest.raises(BadInput, match="no order"):
        rdp.best_filter_order(mechanism, epsilon, 1e-5)  # type: ignore[arg-type]
