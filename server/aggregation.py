"""From many updates to one change of the global weights.

The mean accumulates as updates arrive, in one fixed-point integer per parameter: memory does not grow with
the number of sites, and since integers add associatively the result does not depend, to the bit, on the
order of arrival. Rules that must see every update (median, trimmed mean, Krum) keep them all, and use Flower's
implementations where Flower has a function for it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from numpy.typing import NDArray

from common.errors import BadInput
from common.study import FederationSection
from common.weights import Weights

__all__ = ["Accumulator", "Gathered", "StreamingMean", "accumulator_for"]

_FRACTION_BITS = 40
_LARGEST_CHANGE = float(2 ** (62 - _FRACTION_BITS))
_BLOCK = 16_384
"""Numbers that are added at once."""


class Accumulator(Protocol):
    """Takes updates one by one; gives the round's change of the global weights."""

    def add(self, weights: Weights, share: float) -> None:
        """Take one site's weights; ``share`` is its weight over the sum of all selected sites' weights."""
        ...

    def change(self) -> Weights:
        """The combined change; raises :class:`BadInput` if nothing was added."""
        ...


class StreamingMean:
    """Weighted mean of the changes (McMahan et al. 2017, Algorithm 1), two models' worth of memory."""

    def __init__(self, start: Weights) -> None:
        """``start`` are the global weights that the round began with."""
        self._start = start
        self._largest = {name: _largest(value) for name, value in start.items()}
        self._sums: dict[str, NDArray[np.int64]] = {
            name: np.zeros(value.size, np.int64) for name, value in start.items()
        }
        self._shares = 0

    def add(self, weights: Weights, share: float) -> None:
        """See :class:`Accumulator`.

        Raises:
            BadInput: a weight changed by more than fixed-point numbers hold (four million).
        """
        for name, start in self._start.items():
            if _largest(weights[name]) + self._largest[name] >= _LARGEST_CHANGE:  # else no change is as large
                difference = weights[name].astype(np.float64) - start
                if difference.size and float(np.abs(difference).max()) >= _LARGEST_CHANGE:
                    raise BadInput(f"update: {name} changed by more than {_LARGEST_CHANGE:.0f} in one round")
        for name, start in self._start.items():
            _add_change(self._sums[name], weights[name].reshape(-1), start.reshape(-1), share)
        self._shares += round(share * 2**_FRACTION_BITS)

    def change(self) -> Weights:
        """See :class:`Accumulator`; sites that did not answer leave the others' relative weights alone."""
        if self._shares <= 0:
            raise BadInput("aggregation: no update was added")
        return {
            name: (total / self._shares).astype(np.float32).reshape(self._start[name].shape)
            for name, total in self._sums.items()
        }


def _largest(values: NDArray[np.float32]) -> float:
    return max(float(values.max()), -float(values.min())) if values.size else 0.0


def _add_change(
    sums: NDArray[np.int64], weights: NDArray[np.float32], start: NDArray[np.float32], share: float
) -> None:
    """Add the flat change times ``share`` in fixed point, in place; a block at a time stays in the cache."""
    exact, whole = np.empty(_BLOCK, np.float64), np.empty(_BLOCK, np.int64)
    for first in range(0, len(sums), _BLOCK):
        block = slice(first, first + _BLOCK)
        scaled = np.subtract(weights[block], start[block], out=exact[: len(sums[block])], dtype=np.float64)
        scaled *= share
        scaled *= 2.0**_FRACTION_BITS
        np.rint(scaled, out=scaled)
        np.copyto(whole[: len(scaled)], scaled, casting="unsafe")  # whole numbers below 2^62
        sums[block] += whole[: len(scaled)]


class Gathered:
    """Keeps every update, for rules that compare them. Unweighted: a site counts once whatever its size."""

    def __init__(self, start: Weights, rule: str, malicious_sites: int) -> None:
        self._start = start
        self._rule = rule
        self._malicious_sites = malicious_sites
        self._updates: list[Weights] = []

    def add(self, weights: Weights, share: float) -> None:
        """See :class:`Accumulator`."""
        # asarray: the difference of two scalars is no array
        self._updates.append({name: np.asarray(weights[name] - start) for name, start in self._start.items()})

    def change(self) -> Weights:
        """See :class:`Accumulator`."""
        if not self._updates:
            raise BadInput("aggregation: no update was added")
        if self._rule == "krum":
            return self._krum()
        if self._rule == "median":  # Yin et al. 2018, coordinate-wise
            return {name: np.median(self._stacked(name), axis=0).astype(np.float32) for name in self._start}
        return {name: self._trimmed_mean(name) for name in self._start}

    def _stacked(self, name: str) -> NDArray[np.float32]:
        return np.stack([update[name] for update in self._updates])

    def _trimmed_mean(self, name: str) -> NDArray[np.float32]:
        """Yin et al. 2018: cut ``malicious_sites`` values at each end of every coordinate."""
        sites = len(self._updates)
        if 2 * self._malicious_sites >= sites:
            raise BadInput(
                f"federation.malicious_sites = {self._malicious_sites}: trimmed-mean needs more than "
                f"{2 * self._malicious_sites} replies, this round had {sites}"
            )
        # The half avoids losing a cut to rounding: int((m + 0.5) / n * n) is m.
        cut = min((self._malicious_sites + 0.5) / sites, 0.499) if self._malicious_sites else 0.0
        return np.asarray(trim_mean(self._stacked(name), cut), np.float32)

    def _krum(self) -> Weights:
        """Blanchard et al. 2017: the one update closest to its neighbours."""
        needed = 2 * self._malicious_sites + 3
        if len(self._updates) < needed:
            raise BadInput(
                f"federation.malicious_sites = {self._malicious_sites}: krum needs {needed} replies, "
                f"this round had {len(self._updates)}"
            )
        records = [
            RecordDict({"arrays": ArrayRecord({name: Array(value) for name, value in update.items()})})
            for update in self._updates
        ]
        chosen = select_multikrum(records, self._malicious_sites, 1)[0]
        return self._updates[next(i for i, record in enumerate(records) if record is chosen)]


def accumulator_for(federation: FederationSection, start: Weights) -> Accumulator:
    """The accumulator that the study's strategy needs."""
    if federation.strategy in {"median", "trimmed-mean", "krum"}:
        return Gathered(start, federation.strategy, federation.malicious_sites)
    return StreamingMean(start)
