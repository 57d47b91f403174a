"""Trainable parameters by name, as they cross the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weights", "bytes_of"]

Weights = dict[str, NDArray[np.float32]]
"""Parameter name to value, float32."""


def bytes_of(weights: Weights) -> int:
    """Size of the tensors themselves, in bytes."""
    return sum(value.nbytes for value in weights.values())
