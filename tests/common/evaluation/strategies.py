"""Predictions to score, as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SMALL_LOGITS = st.floats(-15, 15, width=32)
"""Logits whose log loss stays within what scikit-learn's clipping of probabilities leaves alone."""

WILD_LOGITS = st.floats(allow_nan=False, allow_infinity=False, width=32)
"""Every finite float32, up to 3.4e38: as extreme as a model can answer without overflow."""


@st.composite
def predictions(draw, *, values=SMALL_LOGITS, smallest=1, labels=None):
    """Draw logits ``(examples, labels)`` and targets ``(examples,)`` for up to 40 examples."""
    examples = draw(st.integers(smallest, 40))
    count = labels or draw(st.integers(2, 5))
    logits = draw(arrays.arrays("float32", (examples, count), elements=values))
    targets = draw(arrays.arrays("int64", examples, elements=st.integers(0, count - 1)))
    return logits, targets
