"""One contract for every accountant, and the doors of the module."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.privacy import accounting, pld
from common.privacy.accounting import Accountant
from common.privacy.mechanism import Composition, Gaussian, Laplace, Mechanism, NotPrivate, SampledGaussian
from tests.common.privacy.golden_values import ROWS

rates = st.floats(0.001, 1.0)
noises = st.floats(0.4, 20.0)
counts = st.integers(1, 3000)
deltas = st.sampled_from([1e-8, 1e-6, 1e-5, 1e-3])
sampled = st.builds(SampledGaussian, rates, noises, counts)
parts = st.lists(
    sampled
    | st.builds(Gaussian, st.floats(2.0, 30.0), st.integers(1, 5))
    | st.builds(Laplace, st.floats(2.0, 30.0), st.integers(1, 5)),
    min_size=1,
    max_size=3,
)
GRID = 3e-4
"""What two grids or two roundings may differ by; monotonicity is asked for up to it."""


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
class TestEveryAccountant:
    """What ``epsilon`` and ``delta`` promise, whoever computes them."""

    def test_nothing_costs_nothing(self, accountant: Accountant) -> None:
        for nothing in (Composition(()), SampledGaussian(0.1, 1.0, 0), SampledGaussian(0.0, 0.0, 7)):
            assert accounting.epsilon(nothing, 1e-5, accountant) == 0.0
            assert accounting.delta(nothing, 0.0, accountant) == 0.0

    def test_no_noise_costs_infinity(self, accountant: Accountant) -> None:
        for lost in (SampledGaussian(0.1, 0.0, 1), Gaussian(0.0, 1), Laplace(0.0, 1), NotPrivate("seeded")):
            whole = Composition((Gaussian(9.0, 1), lost))
            assert accounting.epsilon(whole, 1e-5, accountant) == math.inf
            assert accounting.delta(whole, 3.0, accountant) == 1.0

    def test_adding_a_free_part_changes_nothing(self, accountant: Accountant) -> None:
        one = SampledGaussian(0.02, 1.0, 100)
        padded = Composition((Composition(()), one, SampledGaussian(0.0, 0.0, 3)))
        assert accounting.epsilon(padded, 1e-5, accountant) == accounting.epsilon(one, 1e-5, accountant)

    @given(parts=parts, delta=deltas, random=st.randoms())
    @settings(max_examples=15, deadline=None)
    def test_order_does_not_matter(
        self, accountant: Accountant, parts: list[Mechanism], delta: float, random: object
    ) -> None:
        before = accounting.epsilon(Composition(tuple(parts)), delta, accountant)
        random.shuffle(parts)  # type: ignore[attr-defined]
        nested = Composition((Composition(tuple(parts[:1])), Composition(tuple(parts[1:]))))
        assert accounting.epsilon(nested, delta, accountant) == before

    @given(one=sampled, delta=deltas, more=st.floats(1.02, 3.0))
    @settings(max_examples=15, deadline=None)
    def test_rises_with_rate_and_steps_and_falls_with_noise_and_delta(
        self, accountant: Accountant, one: SampledGaussian, delta: float, more: float
    ) -> None:
        def cost(mechanism: Mechanism, at: float) -> float:
            return accounting.epsilon(mechanism, at, accountant)

        here = cost(one, delta)
        slack = GRID + 1e-5 * here
        rate, noise, steps = one.sample_rate, one.noise_multiplier, one.steps
        assert cost(SampledGaussian(min(1.0, rate * more), noise, steps), delta) >= here - slack
        assert cost(SampledGaussian(rate, noise, math.ceil(steps * more)), delta) >= here - slack
        assert cost(SampledGaussian(rate, noise * more, steps), delta) <= here + slack
        assert cost(one, min(0.5, delta * more)) <= here

    @given(parts=parts, delta=deltas)
    @example(parts=[SampledGaussian(0.75, 0.75, 961)], delta=1e-8)
    @example(parts=[SampledGaussian(0.5, 0.5, 695)], delta=1e-8)
    @settings(max_examples=15, deadline=None)
    def test_delta_undoes_epsilon(self, accountant: Accountant, parts: list[Mechanism], delta: float) -> None:
        whole = Composition(tuple(parts))
        epsilon = accounting.epsilon(whole, delta, accountant)
        if 0.0 < epsilon < 1000.0:
            assert accounting.delta(whole, epsilon, accountant) == pytest.approx(delta, rel=1e-5)

    def test_a_part_costs_no_more_than_the_whole(self, accountant: Accountant) -> None:
        one, other = SampledGaussian(0.01, 1.0, 500), Laplace(2.0, 1)
        whole = accounting.epsilon(Composition((one, other)), 1e-5, accountant)
        assert accounting.epsilon(one, 1e-5, accountant) < whole
        assert accounting.epsilon(other, 1e-5, accountant) < whole

    def test_trap05_never_below_zero(self, accountant: Accountant) -> None:
        assert accounting.epsilon(Gaussian(50.0, 1), 0.05, accountant) == 0.0


@given(parts=parts, delta=deltas)
@settings(max_examples=25, deadline=None)
def test_pld_is_never_above_rdp(parts: list[Mechanism], delta: float) -> None:
    whole = Composition(tuple(parts))
    assert accounting.epsilon(whole, delta, "pld") <= accounting.epsilon(whole, delta, "rdp")


@pytest.mark.slow
def test_prv_agrees_with_the_others() -> None:
    mechanism = SampledGaussian(0.01, 1.0, 1000)
    tight = accounting.epsilon(mechanism, 1e-5)
    assert tight <= accounting.epsilon(mechanism, 1e-5, "prv") <= tight + 0.0125
    at_epsilon = accounting.delta(mechanism, 1.8282)
    assert at_epsilon <= accounting.delta(mechanism, 1.8282, "prv") <= 1.1 * at_epsilon
    assert accounting.epsilon(Composition(()), 1e-5, "prv") == 0.0


@pytest.mark.parametrize("delta", [0.0, 1e-13, 1.0, -1e-5, math.nan, "1e-5"])
def test_trap04_a_delta_out_of_bounds_is_refused(delta: object) -> None:
    with pytest.raises(BadInput, match="delta"):
        accounting.epsilon(Gaussian(1.0, 1), delta)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [-1.0, math.inf, math.nan, None])
def test_an_epsilon_out_of_bounds_is_refused(epsilon: object) -> None:
    with pytest.raises(BadInput, match="epsilon"):
        accounting.delta(Gaussian(1.0, 1), epsilon)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gdp", "PLD", ""])
def test_trap12_other_accountants_are_refused(name: str) -> None:
    for ask in (accounting.epsilon, accounting.delta):
        with pytest.raises(BadInput, match="accountant"):
            ask(Gaussian(1.0, 1), 0.5, name)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no upper bound"):
        accounting.epsilon(Gaussian(1.0, 1), 0.5, "gdp")  # type: ignore[arg-type]


def test_institutions_under_central_noise() -> None:
    """Table of the institution unit at delta 1e-5: (noise, rounds, rate, PLD, RDP)."""
    for noise, rounds, rate, tight, loose in [
        (2, 5, 1, 4.9833, 5.3777),
        (2, 5, 0.5, 2.8078, 3.1218),
        (5, 50, 0.2, 1.1176, 1.2293),
        (1, 20, 0.1, 3.5907, 4.2243),
    ]:
        mechanism = SampledGaussian(rate, noise, rounds)
        assert accounting.epsilon(mechanism, 1e-5) == pytest.approx(tight, rel=5e-5)
        # the RDP column is dp_accounting's, which is loose at fractional orders
        assert accounting.epsilon(mechanism, 1e-5, "rdp") == pytest.approx(loose, rel=6e-3)


def test_epsilon_after_is_a_table_that_ends_in_the_verdict() -> None:
    steps = [0, 100, 250, 1000, 500]
    table = accounting.epsilon_after(0.01, 1.0, steps, 1e-5)
    assert table[0] == 0.0
    assert table[3] == accounting.epsilon(SampledGaussian(0.01, 1.0, 1000), 1e-5)
    assert [table[place] for place in (0, 1, 2, 4, 3)] == sorted(table)
    assert table[1] == pytest.approx(accounting.epsilon(SampledGaussian(0.01, 1.0, 100), 1e-5), abs=1e-9)


def test_epsilon_after_at_the_edges() -> None:
    assert accounting.epsilon_after(0.01, 0.0, [0, 1], 1e-5) == [0.0, math.inf]
    assert accounting.epsilon_after(0.0, 1.0, [0, 1], 1e-5) == [0.0, 0.0]
    assert accounting.epsilon_after(0.01, 1.0, [], 1e-5) == []
    with pytest.raises(BadInput, match="steps"):
        accounting.epsilon_after(0.01, 1.0, [-1], 1e-5)


def test_epsilon_after_shares_one_grid_beyond_many_steps() -> None:
    steps = [19_000, pld.MANY_STEPS, pld.MANY_STEPS + 1, 30_000]
    table = accounting.epsilon_after(0.001, 1.0, steps, 1e-6)
    assert table == sorted(table)


def test_trap13_a_further_check_is_quick() -> None:
    """At most 50 ms of processor time once a step's distribution is known (S03, S05)."""
    for row in (ROWS[2], ROWS[4]):
        accounting.epsilon(row.mechanism, row.delta)
        taken = []
        for fewer in range(1, 4):
            fresh = SampledGaussian(row.sample_rate, row.noise, row.steps - fewer)
            start = time.process_time()
            accounting.epsilon(fresh, row.delta)
            taken.append(time.process_time() - start)
        assert min(taken) < 0.05


def test_importing_costs_little_and_no_accountant_but_prv_imports_torch() -> None:
    code = (
        "import sys, time; import dataclasses, typing; start = time.process_time();"
        "from common.privacy import accounting; taken = time.process_time() - start;"
        "from common.privacy.mechanism import Gaussian, Laplace, Composition;"
        "both = Composition((Gaussian(2.0, 1), Laplace(2.0, 1)));"
        "accounting.epsilon(both, 1e-5); accounting.epsilon(both, 1e-5, 'rdp');"
        "accounting.noise_multiplier_for(1.0, 1e-5, [(1.0, 2)]);"
        "assert not {'torch', 'opacus'} & set(sys.modules); print(taken)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.05
