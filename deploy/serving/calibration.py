"""Confidence that means what it says: one temperature, fitted on the coordinator's public validation set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import HanseError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy.inference import SavedModel

__all__ = ["fitted_temperature", "softened", "temperature_of_run"]

_LOW, _HIGH = math.log(0.05), math.log(20.0)
_STEPS = 60
_GOLDEN = (math.sqrt(5) - 1) / 2
_FEWEST = 20
"""Validation rows below which no temperature is fitted."""


def softened(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities ``(texts, labels)``: softmax of ``logits / temperature``. No label changes its rank."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    raised = np.exp(scaled)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fitted_temperature(logits: NDArray[np.float32], targets: Sequence[int]) -> float:
    """The temperature of the smallest mean log loss, from 0.05 to 20 (Guo et al. 2017, section 4.2).

    The loss is convex in 1/T, hence has one minimum in log T: golden-section search.
    """
    rows = np.arange(len(targets))
    chosen = np.asarray(targets)

    def loss(log_temperature: float) -> float:
        found = softened(logits, math.exp(log_temperature))[rows, chosen]
        return float(-np.log(np.maximum(found, 1e-300)).mean())

    low, high = _LOW, _HIGH
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def temperature_of_run(model: SavedModel, run: Path) -> float | None:
    """Fit on the validation set of the run in ``run``; None where its data can no longer be read or is too small.

    That set is public and was never trained on (P21); it chose the best round, so the fit is slightly hopeful.
    """
    from common.study_file import read_study
    from common.virtual_sites import virtual_sites

    try:
        validation = virtual_sites(read_study(run / "study.toml")).validation
    except HanseError:
        return None
    if len(validation) < _FEWEST:
        return None
    logits = model.logits([example.text for example in validation])
    return fitted_temperature(logits, [example.label for example in validation])
