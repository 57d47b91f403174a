"""Per-example clipping, and the noisy sum built on it (Abadi et al. 2016, Algorithm 1; Opacus underneath).

The clipped sum of a batch is ``sum_i g_i * min(1, C' / ||g_i||)`` with ``C' = C (1 - ROUNDING_MARGIN)``, where
``g_i`` is the gradient of example ``i`` over all trainable parameters together (flat clipping). Adding or
removing one example moves it by at most C in Euclidean norm: that is the sensitivity the noise is calibrated
against. Norms, factors and sums are float32 whatever the dtype of the gradients (PRIVACY P12).

Where rows belong to groups, the group is what the sum is about: its gradient is the weighted sum of its rows'
gradients, clipped as that of one example. A row that is not finite makes its whole group contribute zero.

    ========================== ==========================================
    gradient of an example     its contribution
    ========================== ==========================================
    norm below C'              itself
    norm above C'              scaled to norm C'
    all zero                   zero
    holds NaN or an infinity   zero, and the step goes on
    norm overflows float32     zero
    ========================== ==========================================

A batch without examples contributes zero and still receives noise. Noise comes from Hanse's own source, never
from Opacus' (whose ``secure_mode`` needs a package that no longer installs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from opacus.grad_sample.utils import register_grad_sampler
from opacus.optimizers import DPOptimizer
from torch import nn

from common.errors import HanseError
from common.privacy.randomness import NoiseSource

__all__ = ["ROUNDING_MARGIN", "NoisyClippedSum", "clip_factors"]

ROUNDING_MARGIN = 1e-4
"""C is reduced by this share, which covers float32 rounding in norms and sums of up to 1e9 terms."""


def clip_factors(gradients: Sequence[torch.Tensor], max_grad_norm: float) -> torch.Tensor:
    """Factor in [0, 1] for each example, float32 ``(batch,)``; 0 for one whose norm is not finite.

    Args:
        gradients: per-example gradients, one tensor ``(batch, ...)`` per parameter.
        max_grad_norm: C.
    """
    squares = [_rows(g).square().sum(dim=1) for g in gradients]
    norms = torch.stack(squares, dim=1).sum(dim=1).sqrt()
    factors = (max_grad_norm * (1 - ROUNDING_MARGIN) / norms).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


def _rows(gradient: torch.Tensor) -> torch.Tensor:
    # One float32 row per example; -1 in place of the product would not do for a batch without examples.
    return gradient.reshape(len(gradient), math.prod(gradient.shape[1:])).float()


@register_grad_sampler(nn.LayerNorm)  # type: ignore[untyped-decorator]
def layer_norm_gradients(
    layer: nn.LayerNorm, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Per-example gradients of a LayerNorm, with or without a bias (Opacus' own rule needs one)."""
    gradients: dict[nn.Parameter, torch.Tensor] = {}
    summed = tuple(range(1, backprops.dim() - 1))
    if layer.weight is not None and layer.weight.requires_grad:
        normalised = nn.functional.layer_norm(activations[0], layer.normalized_shape, eps=layer.eps)
        product = normalised * backprops
        gradients[layer.weight] = product.sum(dim=summed) if summed else product
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = backprops.sum(dim=summed) if summed else backprops
    return gradients


class NoisyClippedSum(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' optimizer for logical batches split into physical ones.

    For each physical batch: backward, then :meth:`accumulate`; at the end of the logical batch
    :meth:`noisy_step`, once, also when there was no example at all.
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

    def accumulate(self, units: torch.Tensor | None = None, weights: torch.Tensor | None = None) -> None:
        """Clip the gradients of the last backward pass, unit by unit, and add them to the sum.

        Args:
            units: group of each row, numbered from 0, int64 ``(rows,)``; every row of a group is in this pass.
                None: each row is a unit of its own.
            weights: factor of each row within its group's gradient, ``(rows,)``; given with ``units``.

        Raises:
            HanseError: gradients and units disagree about the rows, or a parameter has no gradient of them.
        """
        if units is not None and weights is not None:
            self._group(units, weights)
        elif units is not weights:
            raise HanseError("units and weights are given together or not at all")
        self.clip_and_accumulate()
        for parameter in self.params:
            parameter.grad_sample = None
            parameter.grad = None

    def _group(self, units: torch.Tensor, weights: torch.Tensor) -> None:
        """Turn gradients of rows into gradients of groups, which are then clipped as they stand.

        Norms are taken of the very float32 sums that are added up: rows that cancel can round as they will.
        """
        groups = int(units.max()) + 1 if len(units) else 0
        for parameter in self.params:
            flat = _rows(self._per_example(parameter))
            if len(flat) != len(units):
                raise HanseError(f"gradients of {len(flat)} rows came for the units of {len(units)}")
            shares = flat * weights.float().unsqueeze(1)
            grouped = flat.new_zeros(groups, flat.shape[1]).index_add_(0, units, shares)
            parameter.grad_sample = grouped.view(groups, *parameter.shape)

    def clip_and_accumulate(self) -> None:
        """Clip in float32 and add up; an example with a non-finite gradient contributes zero.

        Raises:
            HanseError: a trainable parameter came without a per-example gradient and would go unclipped.
        """
        gradients = [self._per_example(parameter) for parameter in self.params]
        factors = clip_factors(gradients, self.max_grad_norm)
        dead = factors == 0
        for parameter, gradient in zip(self.params, gradients, strict=True):
            flat = _rows(gradient)
            if bool(dead.any()):  # 0 * inf is NaN
                flat = torch.where(dead.unsqueeze(1), torch.zeros_like(flat), flat)
            total = (factors @ flat).view_as(parameter)
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total

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

    @staticmethod
    def _per_example(parameter: nn.Parameter) -> torch.Tensor:
        gradient = getattr(parameter, "grad_sample", None)
        if not isinstance(gradient, torch.Tensor):
            raise HanseError(
                f"a trainable parameter of shape {tuple(parameter.shape)} has no per-example gradient and "
                "would go unclipped; this model cannot be trained privately as it is"
            )
        return gradient
