"""Central differential privacy: the coordinator clips whole updates and noises their sum (PRIVACY P19).

For consortia that trust their coordinator with updates. The unit is an institution: the released mean changes by
at most ``max_i w_i C`` in Euclidean norm when one institution joins or leaves, ``w_i`` being the public weights
normalised over all selected institutions, whoever replies. Every institution takes part in every round, so
nothing is amplified by sampling (McMahan et al. 2018, "Learning differentially private recurrent language
models", Algorithm 1, with a fixed divisor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput
from common.privacy.randomness import NoiseSource
from common.weights import Weights

__all__ = ["ROUNDING_MARGIN", "PrivateMean"]

ROUNDING_MARGIN = 1e-6
"""C is reduced by this share, which covers float64 rounding in norms and sums."""


class PrivateMean:
    """A weighted mean of clipped changes plus Gaussian noise. An ``Accumulator`` of ``server.aggregation``."""

    def __init__(
        self,
        start: Weights,
        max_grad_norm: float,
        noise_multiplier: float,
        shares: Sequence[float],
        noise: NoiseSource,
    ) -> None:
        """Take the round's global weights and what is public about the institutions.

        Args:
            start: the global weights that the round began with.
            max_grad_norm: C, the largest Euclidean norm of a whole update that counts in full.
            noise_multiplier: noise standard deviation over the sensitivity.
            shares: the weights of all selected institutions, normalised to a sum of 1.
            noise: where the noise comes from.
        """
        self._start = start
        self._bound = max_grad_norm * (1 - ROUNDING_MARGIN)
        self._deviation = noise_multiplier * max_grad_norm * max(shares)
        self._largest_share = max(shares)
        self._noise = noise
        self._sums: dict[str, NDArray[np.float64]] = {
            name: np.zeros(value.shape, np.float64) for name, value in start.items()
        }

    def add(self, weights: Weights, share: float) -> None:
        """Clip one institution's change to norm C over all tensors together, and add its share.

        Raises:
            BadInput: the share is larger than the noise was made for.
        """
        if share > self._largest_share:
            raise BadInput(f"aggregation: share = {share}: at most {self._largest_share}, for which noise is made")
        changes = {name: weights[name].astype(np.float64) - start for name, start in self._start.items()}
        norm = math.sqrt(sum(float(np.square(change).sum()) for change in changes.values()))
        factor = min(1.0, self._bound / norm) if 0 < norm < math.inf else 0.0
        if factor == 0.0:  # nothing changed, or the norm overflows: it counts for nothing
            return
        for name, change in changes.items():
            self._sums[name] += change * (factor * share)

    def change(self) -> Weights:
        """The noisy mean change; without a single reply it is noise alone. To be asked once."""
        noised = {}
        for name in list(self._sums):
            total = torch.from_numpy(np.atleast_1d(self._sums.pop(name)))
            noisy = self._noise.noisy_sum(total, self._deviation).numpy()
            noised[name] = noisy.reshape(self._start[name].shape).astype(np.float32)
        return noised
