"""The noisy sum built on clipped ones (Abadi et al. 2016, Algorithm 1; Opacus' optimizer underneath).

Noise comes from Hanse's own source, never from Opacus' (whose ``secure_mode`` needs a package that no longer
installs). A logical batch without a single unit contributes zero and still receives noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from opacus.optimizers import DPOptimizer

from common.errors import HanseError
from common.privacy.randomness import NoiseSource

__all__ = ["NoisyClippedSum"]


class NoisyClippedSum(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' optimizer for logical batches split into physical ones.

    Each physical batch adds its clipped sum to the parameters' ``summed_grad``
    (:class:`client.clipping.ClippedBackward`); at the end of the logical batch comes :meth:`noisy_step`, once,
    also when there was no unit at all.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        noise: NoiseSource,
    ) -> None:
        """Wrap ``optimizer``.

        Args:
            optimizer: takes the step once the gradient is noised.
            noise_multiplier: sigma: noise standard deviation of the sum over ``max_grad_norm``.
            max_grad_norm: C.
            expected_batch_size: divides the noisy sum.
            noise: where noise comes from.
        """
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._noise_source = noise

    def add_noise(self) -> None:
        """Turn each parameter's sum into its noisy gradient; the sums are gone afterwards.

        Raises:
            HanseError: a parameter has no sum, as after a second call: a sum is noised once.
        """
        for parameter in self.params:
            total = parameter.summed_grad
            if total is None:
                raise HanseError("there is no clipped sum to add noise to: each is noised once, after its batch")
            noised = self._noise_source.noisy_sum(total, self.noise_multiplier * self.max_grad_norm)
            parameter.grad = noised.view_as(parameter)
            parameter.summed_grad = None

    def noisy_step(self, pull: float = 0.0, towards: Sequence[torch.Tensor] = ()) -> None:
        """Add noise to the sum, divide by the expected batch size, and take the optimizer's step.

        Args:
            pull: FedProx' mu: adds ``mu (w - towards)`` to the noisy gradient (Li et al. 2020, eq. 2).
            towards: the parameters at the start of the round, in the optimizer's order.
        """
        for parameter in self.params:
            if parameter.summed_grad is None:
                parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float32)
        self.add_noise()
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size
        for parameter, start in zip(self.params, towards, strict=False):
            parameter.grad += pull * (parameter.detach() - start)
        self.original_optimizer.step()
        for parameter in self.params:
            parameter.grad = None
