"""Whether one mechanism is part of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.privacy.coverage import covers, merged, together
from common.privacy.mechanism import Composition, Gaussian, Laplace, Mechanism, NotPrivate, SampledGaussian, merge

A, G, L, N = SampledGaussian(0.02, 1.0, 50), Gaussian(2.0, 3), Laplace(2.0, 3), NotPrivate("public")
ALL = Composition((A, G, L, N))


@pytest.mark.parametrize(
    ("part", "covered"),
    [
        (Composition(()), True),
        (A, True),
        (SampledGaussian(0.02, 1.0, 49), True),
        (SampledGaussian(0.02, 1.0, 51), False),
        (Composition((A, A)), False),
        (SampledGaussian(0.02, 1.1, 1), False),
        (SampledGaussian(0.01, 1.0, 1), False),
        (Gaussian(2.0, 4), False),
        (SampledGaussian(1.0, 2.0, 3), True),
        (Gaussian(2.0, 2), True),
        (Laplace(2.0, 4), False),
        (Laplace(3.0, 1), False),
        (NotPrivate("public"), True),
        (NotPrivate("other"), False),
        (ALL, True),
    ],
)
def test_what_is_covered(part: Mechanism, covered: bool) -> None:
    assert covers(ALL, part) is covered


def test_kinds_with_equal_numbers_are_told_apart() -> None:
    assert not covers(Gaussian(2.0, 3), Laplace(2.0, 3))
    assert not covers(Laplace(2.0, 3), Gaussian(2.0, 3))


pieces = st.one_of(
    st.builds(SampledGaussian, st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([1.0, 2.0]), st.integers(0, 5)),
    st.builds(Gaussian, st.sampled_from([1.0, 2.0]), st.integers(0, 5)),
)


@given(st.lists(pieces, max_size=4), st.lists(pieces, max_size=4))
def test_the_whole_covers_its_parts_and_order_does_not_matter(
    first: list[Mechanism], second: list[Mechanism]
) -> None:
    one, two = Composition(tuple(first)), Composition(tuple(second))
    both = together(one, two)
    assert covers(both, one)
    assert covers(both, two)
    assert both == together(two, one) == merged(both)
    assert covers(one, both) == (not merge(two))
