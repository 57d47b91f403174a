"""What one layer adds to the units' gradient norms and to their clipped sum, without a gradient for each unit.

A layer's weight gradient for one unit is a sum over its tokens, ``G = sum_t g_t a_t^T``, of output gradients
``g`` and inputs ``a``. Its squared norm follows from either of two products, whichever is cheaper (Bu et al.
2022, arXiv 2205.10683, section 3; the sum after it: Bu et al. 2023, arXiv 2210.00038, "book-keeping")::

    Gram       ||G||^2 = sum_{t,s} (a_t . a_s) (g_t . g_s)      T^2 (d + p) per unit, and up to twice that
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

_STRIP = 32
"""Rows of a matrix of products that a processor takes at once; fewer save more and multiply more slowly."""

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

    def weighted_sum(self, factors: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """Sum over the units of ``factors`` times their gradients, in the parameter's shape.

        It is added to ``onto`` in place, where that is given.
        """
        ...

    def keep(self, units: torch.Tensor) -> None:
        """Forget all units but these, by index: what is not finite must not reach the sum (0 x inf is NaN)."""
        ...


class TokenProducts:
    """Products of a unit's tokens with one another, each pair once.

    The matrix of all products is symmetric. It is taken in strips of rows, each from its own diagonal on, so that
    little of the other half is computed.
    """

    def __init__(self, values: torch.Tensor) -> None:
        """Of vectors ``(units, tokens, n)``."""
        tokens, self._size = values.shape[1], values.shape[2]
        width = _STRIP if values.device.type == "cpu" else tokens  # a GPU would rather do it all at once
        self._strips = [
            torch.bmm(values[:, first : first + width], values[:, first:].transpose(1, 2))
            for first in range(0, tokens, max(width, 1))
        ]

    def norms(self) -> torch.Tensor:
        """Norm of each vector, from above also where squares are too small for float32, ``(units, tokens)``."""
        squares = torch.cat([strip.diagonal(dim1=1, dim2=2) for strip in self._strips], 1)
        return (squares + FLOOR * self._size).sqrt()

    def paired(self, others: list[torch.Tensor]) -> torch.Tensor:
        """Sum over pairs of tokens, in both orders, of their product times the other's entry, ``(units,)``."""
        sums = []
        for strip, other in zip(self._strips, others, strict=True):
            both, width = strip * other, strip.shape[1]
            # Both orders of a pair stand in the strip's own square; right of it stands one.
            sums.append(both[:, :, :width].sum((1, 2)) + 2 * both[:, :, width:].sum((1, 2)))
        return torch.stack(sums).sum(0)

    def times(self, other: TokenProducts) -> torch.Tensor:
        """Sum over pairs of tokens of one's product times the other's, ``(units,)``."""
        return self.paired(other._strips)

    def where_equal(self, indexes: torch.Tensor) -> torch.Tensor:
        """Sum over pairs of tokens that have the same index, ``(units,)``."""
        equal, first = [], 0
        for strip in self._strips:
            after = first + strip.shape[1]
            equal.append(indexes[:, first:after].unsqueeze(2) == indexes[:, first:].unsqueeze(1))
            first = after
        return self.paired(equal)


class SharedInput:
    """The input of a linear layer, and what layers with the same input need of it but once."""

    def __init__(self, inputs: torch.Tensor) -> None:
        """``inputs``: a, ``(units, tokens, p)``, float32."""
        self.inputs = inputs
        self.kept = inputs
        """As ``inputs``, without the units that were dropped."""

    @cached_property
    def products(self) -> TokenProducts:
        """Products ``a_t . a_s``."""
        return TokenProducts(self.inputs)

    @cached_property
    def norms(self) -> torch.Tensor:
        """``||a_t||`` from above, ``(units, tokens)``."""
        return self.products.norms()

    def keep(self, units: torch.Tensor) -> None:
        """See :meth:`LayerGradient.keep`; the second layer to say so changes nothing."""
        self.kept = self.inputs[units]


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
        products = TokenProducts(self.outputs)
        norms = products.norms()
        terms = (self.shared.norms * norms).sum(1).square()
        p, d = self.shared.inputs.shape[2], self.outputs.shape[2]
        lost = p * norms.sum(1).square() + d * self.shared.norms.sum(1).square()
        return self.shared.products.times(products).clamp(min=0.0) + RELIEF * terms + FLOOR * lost

    def weighted_sum(self, factors: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        scaled = (self.outputs * factors.view(-1, 1, 1)).flatten(0, 1).t()
        inputs = self.shared.kept.flatten(0, 1)
        return scaled @ inputs if onto is None else onto.addmm_(scaled, inputs)

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

    def weighted_sum(self, factors: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        return _added(factors @ self.outputs, onto)

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
        products = TokenProducts(self.outputs)
        terms = products.norms().sum(1).square()
        return products.where_equal(self.indexes).clamp(min=0.0) + RELIEF * terms

    def weighted_sum(self, factors: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        scaled = (self.outputs * factors.view(-1, 1, 1)).flatten(0, 1)
        table = torch.zeros_like(self.parameter, dtype=torch.float32) if onto is None else onto
        return table.index_add_(0, self.indexes.flatten(), scaled)

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

    def weighted_sum(self, factors: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """See :class:`LayerGradient`."""
        total = factors @ self.gradients.reshape(len(factors), self.parameter.numel())
        return _added(total.view_as(self.parameter), onto)

    def keep(self, units: torch.Tensor) -> None:
        """See :class:`LayerGradient`."""
        self.gradients = self.gradients[units]


def _added(total: torch.Tensor, onto: torch.Tensor | None) -> torch.Tensor:
    return total if onto is None else onto.add_(total)
