"""What one layer adds to the units' gradient norms and to their clipped sum, without a gradient for each unit.

A layer's weight gradient for one unit is a sum over its tokens, ``G = sum_t g_t a_t^T``, of output gradients
``g`` and inputs ``a``. Its squared norm follows from either of two products, whichever is cheaper (Bu et al.
2022, arXiv 2205.10683, section 3; the sum after it: Bu et al. 2023, arXiv 2210.00038, "book-keeping")::

    Gram       ||G||^2 = sum_{t,s} (a_t . a_s) (g_t . g_s)      2 T^2 (d + p) per unit
    explicit   ||G||^2 = ||sum_t g_t a_t^T||^2                  2 T d p per unit

After Gram, the clipped sum of a batch is a single product over all tokens, with each unit's clip factor folded
into its ``g``. Where explicit is cheaper, as for LoRA's narrow layers, ``G`` is small and is kept. Tensors are
float32; ``units`` below is the number of units, ``tokens`` that of a unit's positions, all rows of the unit one
after another.

**Cancellation.** Tokens whose gradients cancel leave a norm far below that of the terms, and rounding then
weighs more than the norm. A norm by Gram is therefore taken from above: ``RELIEF * (sum_t ||a_t|| ||g_t||)^2``
is added to its square. Where nothing cancels this changes a norm by less than 1e-4 of itself.

**Underflow.** Products of tiny inputs vanish in float32 though a huge output gradient may make up for them. Each
entry of a Gram matrix loses at most ``FLOOR`` a term, so ``FLOOR * (p (sum_t ||g_t||)^2 + d (sum_t ||a_t||)^2)``
is added as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

__all__ = [
    "FLOOR",
    "RELIEF",
    "BiasGradient",
    "EmbeddingGradient",
    "ExplicitGradient",
    "LayerGradient",
    "SharedInput",
    "WeightGradient",
    "weight_gradient",
]

RELIEF = 2.0**-22
"""Four units of float32 rounding: above the errors seen in sums of up to 4,096 terms, relative to the product of
their terms' norms."""


FLOOR = 2.0**-125
"""Twice float32's smallest normal number: more than a product loses that is too small for the type."""


class LayerGradient(Protocol):
    """The part of every unit's gradient that one parameter has from one backward pass."""

    parameter: torch.Tensor

    def squared_norms(self) -> torch.Tensor:
        """Squared norm for each unit, from above, ``(units,)``."""
        ...

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """Sum over the units of ``factors`` times their gradients, in the parameter's shape."""
        ...

    def keep(self, units: torch.Tensor) -> None:
        """Forget all units but these, by index: what is not finite must not reach the sum (0 x inf is NaN)."""
        ...


class SharedInput:
    """The input of a linear layer, and what layers with the same input need of it but once."""

    def __init__(self, inputs: torch.Tensor) -> None:
        """``inputs``: a, ``(units, tokens, p)``, float32."""
        self.inputs = inputs
        self.kept = inputs
        """As ``inputs``, without the units that were dropped."""

    @cached_property
    def gram(self) -> torch.Tensor:
        """Products ``a_t . a_s``, ``(units, tokens, tokens)``."""
        return torch.bmm(self.inputs, self.inputs.transpose(1, 2))

    @cached_property
    def norms(self) -> torch.Tensor:
        """``||a_t||`` from above, ``(units, tokens)``."""
        return _token_norms(self.inputs)

    def keep(self, units: torch.Tensor) -> None:
        """See :meth:`LayerGradient.keep`; the second layer to say so changes nothing."""
        self.kept = self.inputs[units]


def _token_norms(values: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of each token's vector, from above also where squares are too small for float32."""
    return (values.square().sum(2) + FLOOR * values.shape[2]).sqrt()


def weight_gradient(parameter: torch.Tensor, shared: SharedInput, outputs: torch.Tensor) -> LayerGradient:
    """The gradient of a linear layer's weight ``(d, p)``, in the cheaper of the two ways.

    Args:
        parameter: the weight.
        shared: a, which layers may have in common.
        outputs: g, ``(units, tokens, d)``.
    """
    tokens, p, d = shared.inputs.shape[1], shared.inputs.shape[2], outputs.shape[2]
    if tokens > 1 and tokens * (d + p) < d * p:
        return WeightGradient(parameter, shared, outputs)
    return ExplicitGradient(parameter, torch.bmm(outputs.transpose(1, 2), shared.inputs))


@dataclass
class WeightGradient:
    """The weight of a linear layer, by Gram."""

    parameter: torch.Tensor
    shared: SharedInput
    """a, which layers may have in common."""
    outputs: torch.Tensor
    """Gradient g of the layer's output, ``(units, tokens, d)``."""

    def squared_norms(self) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        norms = _token_norms(self.outputs)
        terms = (self.shared.norms * norms).sum(1).square()
        squares = (self.shared.gram * torch.bmm(self.outputs, self.outputs.transpose(1, 2))).sum((1, 2))
        p, d = self.shared.inputs.shape[2], self.outputs.shape[2]
        lost = p * norms.sum(1).square() + d * self.shared.norms.sum(1).square()
        return squares.clamp(min=0.0) + RELIEF * terms + FLOOR * lost

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        scaled = (self.outputs * factors.view(-1, 1, 1)).flatten(0, 1)
        return scaled.t() @ self.shared.kept.flatten(0, 1)

    def keep(self, units: torch.Tensor) -> None:
        """See :class:`LayerGradient`."""
        self.outputs = self.outputs[units]
        self.shared.keep(units)


@dataclass
class BiasGradient:
    """The bias of a linear layer."""

    parameter: torch.Tensor
    outputs: torch.Tensor
    """Gradient of the layer's output, ``(units, tokens, d)``."""

    def __post_init__(self) -> None:
        """Sum over tokens once; norm and sum then come from the same numbers."""
        self.outputs = self.outputs.sum(1)

    def squared_norms(self) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        return self.outputs.square().sum(1)

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        return factors @ self.outputs

    def keep(self, units: torch.Tensor) -> None:
        """See :class:`LayerGradient`."""
        self.outputs = self.outputs[units]


@dataclass
class EmbeddingGradient:
    """The table of an embedding; tokens that repeat within a unit add up."""

    parameter: torch.Tensor
    indexes: torch.Tensor
    """Rows looked up, int64 ``(units, tokens)``."""
    outputs: torch.Tensor
    """Gradient of what was looked up, ``(units, tokens, d)``; zero at the padding index."""

    def squared_norms(self) -> torch.Tensor:
        """See :class:`LayerGradient`: pairs of equal tokens, ``sum_{t,s} [i_t = i_s] (g_t . g_s)``."""
        same = self.indexes.unsqueeze(2) == self.indexes.unsqueeze(1)
        squares = (torch.bmm(self.outputs, self.outputs.transpose(1, 2)) * same).sum((1, 2))
        terms = self.outputs.square().sum(2).sqrt().sum(1).square()
        return squares.clamp(min=0.0) + RELIEF * terms

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        scaled = (self.outputs * factors.view(-1, 1, 1)).flatten(0, 1)
        return torch.zeros_like(self.parameter, dtype=torch.float32).index_add_(0, self.indexes.flatten(), scaled)

    def keep(self, units: torch.Tensor) -> None:
        """See :class:`LayerGradient`."""
        self.indexes, self.outputs = self.indexes[units], self.outputs[units]


@dataclass
class ExplicitGradient:
    """A parameter whose per-unit gradients are small, or that no rule above knows."""

    parameter: torch.Tensor
    gradients: torch.Tensor
    """``(units, *parameter.shape)``."""

    def squared_norms(self) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        return self.gradients.flatten(1).square().sum(1) if self.gradients.dim() > 1 else self.gradients.square()

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        return (factors @ self.gradients.reshape(len(factors), self.parameter.numel())).view_as(self.parameter)

    def keep(self, units: torch.Tensor) -> None:
        """See :class:`LayerGradient`."""
        self.gradients = self.gradients[units]
