"""Expected accuracy at other epsilons, fitted to runs that exist: ``a + (b - a) P / (P + P0)``.

P is the precision that a run's sites bring at their epsilons. P0 and the constants of precision are those of the
call; a and b are fitted by least squares to the runs' validation accuracies (never the test set's, PRIVACY P21).
An extrapolation from few runs: read it as a direction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import BadInput
from server.economics.market_files import ValueSection
from server.economics.weighting import gap_closed, precision

__all__ = ["AccuracyCurve", "PastRun", "fitted_curve", "past_run"]


@dataclass(frozen=True)
class PastRun:
    """A finished private run."""

    sites: tuple[tuple[int, float], ...]
    """Declared size and epsilon spent of each."""
    accuracy: float
    """On the validation set, at the best round."""


@dataclass(frozen=True)
class AccuracyCurve:
    """A fit."""

    without: float
    """a: accuracy without any site."""
    most: float
    """b: accuracy that unlimited precision would reach."""
    error: float
    """Root mean square of the residuals."""
    value: ValueSection

    def at(self, sites: Sequence[tuple[int, float]]) -> float:
        """Expected accuracy with sites of these declared sizes and epsilons."""
        return self.without + (self.most - self.without) * _share(sites, self.value)


def past_run(directory: Path) -> PastRun:
    """What a run directory's result says; raises ``BadInput`` where it has none or was not private by site."""
    try:
        result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        sites = tuple((int(site["declared_size"]), float(site["epsilon"])) for site in result["sites"])
        accuracy = float(result["validation"]["overall"]["accuracy"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{directory}: has no result of a private run to fit the curve to") from error
    return PastRun(tuple(each for each in sites if each[1] > 0), accuracy)


def fitted_curve(runs: Sequence[PastRun], value: ValueSection) -> AccuracyCurve:
    """Fit the curve.

    Raises:
        BadInput: fewer than three runs, or their sites' precision hardly differs.
    """
    shares = np.asarray([_share(run.sites, value) for run in runs])
    if len(runs) < 3 or float(np.ptp(shares)) < 1e-6:
        raise BadInput("--from: the curve needs three runs or more whose epsilons or sizes differ")
    accuracies = np.asarray([run.accuracy for run in runs])
    columns = np.column_stack([1 - shares, shares])
    (without, most), *_ = np.linalg.lstsq(columns, accuracies, rcond=None)
    residual = columns @ [without, most] - accuracies
    return AccuracyCurve(float(without), float(most), float(np.sqrt(np.mean(residual**2))), value)


def _share(sites: Sequence[tuple[int, float]], value: ValueSection) -> float:
    total = sum(precision(size, epsilon, value.spread, value.noise_constant) for size, epsilon in sites)
    return gap_closed(total, value.public_precision)
