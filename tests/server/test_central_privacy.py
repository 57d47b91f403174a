"""The coordinator's noisy mean: what one institution can move is bounded, and noise covers it (PRIVACY P19)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import BadInput
from common.privacy.randomness import SystemRandomness
from common.weights import Weights
from server.central_privacy import PrivateMean

START: Weights = {"a": np.zeros((2, 3), np.float32), "b": np.float32(0.5) * np.ones(4, np.float32)}
SHARES = [0.5, 0.3, 0.2]

changes = st.fixed_dictionaries(
    {
        "a": hnp.arrays(np.float32, (2, 3), elements=st.floats(-1e6, 1e6, width=32)),
        "b": hnp.arrays(np.float32, 4, elements=st.floats(-1e6, 1e6, width=32)),
    }
)


class Recorded:
    """Keeps the sums that were to be noised, and adds nothing."""

    def __init__(self) -> None:
        self.deviations: list[float] = []

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        self.deviations.append(standard_deviation)
        return total


def mean_of(
    updates: list[tuple[Weights, float]], bound: float = 1.5, noise: float = 2.0
) -> tuple[Weights, Recorded]:
    recorded = Recorded()
    mean = PrivateMean(START, bound, noise, SHARES, recorded)
    for weights, share in updates:
        mean.add(weights, share)
    return mean.change(), recorded


def moved(change: Weights) -> Weights:
    return {name: START[name] + change[name] for name in START}


def norm(weights: Weights) -> float:
    return math.sqrt(sum(float(np.square(value.astype(np.float64)).sum()) for value in weights.values()))


@given(changes, changes, st.sampled_from(SHARES))
def test_p19_one_institution_moves_the_sum_by_at_most_its_share_of_c(
    others: Weights, one: Weights, share: float
) -> None:
    without, _ = mean_of([(moved(others), 0.5)])
    with_it, recorded = mean_of([(moved(others), 0.5), (moved(one), share)])
    difference = {name: with_it[name].astype(np.float64) - without[name] for name in START}
    assert norm(difference) <= max(SHARES) * 1.5 + 1e-5
    assert set(recorded.deviations) == {2.0 * 1.5 * max(SHARES)}


def test_p19_the_divisor_is_fixed_whoever_replies() -> None:
    """Two of three institutions missing: the third's share is not scaled up."""
    change = {"a": np.full((2, 3), 0.01, np.float32), "b": np.zeros(4, np.float32)}
    found, _ = mean_of([(moved(change), 0.2)])
    assert np.allclose(found["a"], 0.2 * 0.01, rtol=1e-4)


def test_an_update_within_c_counts_in_full_and_a_larger_one_is_scaled() -> None:
    small = {"a": np.full((2, 3), 0.1, np.float32), "b": np.zeros(4, np.float32)}
    large = {name: 1000 * value for name, value in small.items()}
    found, _ = mean_of([(moved(small), 0.5)])
    assert np.allclose(found["a"], 0.05, rtol=1e-4)
    found, _ = mean_of([(moved(large), 0.5)])
    assert norm(found) == pytest.approx(0.5 * 1.5, rel=1e-4)


def test_without_a_reply_the_mean_is_noise_alone() -> None:
    mean = PrivateMean(START, 1.0, 1.0, SHARES, SystemRandomness())
    change = mean.change()
    assert {name: value.shape for name, value in change.items()} == {"a": (2, 3), "b": (4,)}
    assert all(value.dtype == np.float32 and value.all() for value in change.values())


def test_p19_noise_has_the_deviation_that_the_sensitivity_asks_for() -> None:
    """100,000 draws; the sample deviation leaves 2 % with a chance below 1e-15, and the wrong scale is seen."""
    start = {"a": np.zeros(100_000, np.float32)}
    noised = PrivateMean(start, 3.0, 0.7, [0.25, 0.75], SystemRandomness()).change()["a"]
    assert float(noised.std()) == pytest.approx(0.7 * 3.0 * 0.75, rel=0.02)
    assert float(noised.std()) != pytest.approx(0.7 * 3.0 * 0.25, rel=0.02)


def test_a_share_beyond_the_largest_is_refused() -> None:
    with pytest.raises(BadInput, match=r"share = 0\.9: at most 0\.5"):
        PrivateMean(START, 1.0, 1.0, SHARES, SystemRandomness()).add(START, 0.9)
