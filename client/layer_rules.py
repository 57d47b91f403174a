"""Which gradients by unit a layer's parameters have, from what went into the layer and what came back.

Linear layers, embeddings and LayerNorm have rules here; a layer of another kind is left to Opacus' rule for it,
which makes gradients for each row, with one line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from client.layer_gradients import (
    BiasGradient,
    EmbeddingGradient,
    ExplicitGradient,
    LayerGradient,
    SharedInput,
    weight_gradient,
)
from client.units import Slots
from common.errors import HanseError

__all__ = ["LayerCall", "SharedInputs", "layer_gradients", "needs_inputs"]

_log = logging.getLogger(__name__)
_Gradients: TypeAlias = dict[nn.Parameter, torch.Tensor]
_Rule: TypeAlias = Callable[[nn.Module, list[torch.Tensor], torch.Tensor], _Gradients]


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, forwards and backwards."""

    inputs: torch.Tensor | None
    """What went in, ``(rows, ..., p)``; None where no rule needs it (:func:`needs_inputs`)."""
    gradient: torch.Tensor
    """Gradient of what came out, ``(rows, ..., d)``."""


class SharedInputs:
    """Inputs of linear layers in one backward pass; layers that were called on the same tensors share one."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], tuple[SharedInput, list[torch.Tensor]]] = {}

    def of(self, inputs: list[torch.Tensor], slots: Slots) -> SharedInput:
        """The calls' inputs one after another."""
        key = tuple((a.data_ptr(), a.shape, a.stride(), a.dtype) for a in inputs)
        if key not in self._seen:
            joined = _joined([slots.spread(_tokens(a), weighted=False) for a in inputs])
            # The tensors are kept beside it: a freed one's address may come back for another.
            self._seen[key] = SharedInput(joined), inputs
        return self._seen[key][0]


def needs_inputs(layer: nn.Module, parameters: Sequence[nn.Parameter]) -> bool:
    """Whether gradients of these parameters, the layer's own, need its inputs; biases do not."""
    return not (type(layer) in {nn.Linear, nn.LayerNorm} and all(p is layer.bias for p in parameters))


def layer_gradients(
    layer: nn.Module,
    parameters: Sequence[nn.Parameter],
    calls: Sequence[LayerCall],
    slots: Slots,
    shared: SharedInputs,
) -> list[LayerGradient]:
    """The gradients of a layer's parameters over all its calls, whose tokens follow one another.

    Raises:
        HanseError: there is no rule for a layer of this kind.
    """
    if type(layer) is nn.Linear:
        return _linear(layer, parameters, calls, slots, shared)
    if type(layer) is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq:
        return [_embedding(layer, calls, slots)]
    return _explicit(layer, parameters, calls, slots)


def _linear(
    layer: nn.Linear,
    parameters: Sequence[nn.Parameter],
    calls: Sequence[LayerCall],
    slots: Slots,
    shared: SharedInputs,
) -> list[LayerGradient]:
    outputs = _joined([slots.spread(_tokens(call.gradient), weighted=True) for call in calls])
    found: list[LayerGradient] = []
    if any(p is layer.weight for p in parameters):
        found.append(weight_gradient(layer.weight, shared.of([_inputs(call) for call in calls], slots), outputs))
    if any(p is layer.bias for p in parameters):
        found.append(BiasGradient(layer.bias, outputs))
    return found


def _embedding(layer: nn.Embedding, calls: Sequence[LayerCall], slots: Slots) -> LayerGradient:
    looked_up = [_inputs(call) for call in calls]
    indexes = _joined([slots.spread(a.reshape(len(a), -1, 1), weighted=False) for a in looked_up])
    outputs = _joined([slots.spread(_tokens(call.gradient), weighted=True) for call in calls])
    if layer.padding_idx is not None:
        outputs = outputs * (indexes != layer.padding_idx)
    return EmbeddingGradient(layer.weight, indexes.squeeze(2), outputs)


def _inputs(call: LayerCall) -> torch.Tensor:
    assert call.inputs is not None
    return call.inputs


def _tokens(values: torch.Tensor) -> torch.Tensor:
    """As ``(rows, tokens, n)`` in float32."""
    return values.reshape(len(values), -1, values.shape[-1]).float()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _explicit(
    layer: nn.Module, parameters: Sequence[nn.Parameter], calls: Sequence[LayerCall], slots: Slots
) -> list[LayerGradient]:
    rule = _layer_norm_rule(parameters) if type(layer) is nn.LayerNorm else _opacus_rule(type(layer), parameters)
    totals: dict[int, torch.Tensor] = {}
    for call in calls:
        inputs = [] if call.inputs is None else [call.inputs.float()]
        for parameter, gradient in rule(layer, inputs, call.gradient.float()).items():
            if gradient is not None:
                flat = slots.spread(gradient.reshape(slots.rows, 1, parameter.numel()).float(), weighted=True)
                total = flat.sum(1)
                totals[id(parameter)] = totals[id(parameter)] + total if id(parameter) in totals else total
    return [ExplicitGradient(p, totals[id(p)].view(slots.units, *p.shape)) for p in parameters if id(p) in totals]


def _opacus_rule(kind: type[nn.Module], parameters: Sequence[nn.Parameter]) -> _Rule:
    found = GradSampleModule.GRAD_SAMPLERS.get(kind)
    if found is None:
        raise HanseError(f"a trainable layer of kind {kind.__name__} has no rule for gradients by row")
    _tell_once(kind.__name__)

    def rule(layer: nn.Module, activations: list[torch.Tensor], backprops: torch.Tensor) -> _Gradients:
        for parameter in parameters:
            parameter.requires_grad_(True)  # Opacus passes over what is frozen, as all is during the pass
        try:
            return found(layer, activations, backprops)  # type: ignore[no-any-return]  # Opacus is untyped
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)

    return rule


@lru_cache(maxsize=64)
def _tell_once(kind: str) -> None:
    _log.warning("%s: gradients by row from Opacus' rule, which is slower", kind)


def _layer_norm_rule(parameters: Sequence[nn.Parameter]) -> _Rule:
    """Gradients of a LayerNorm by row, with or without a bias (Opacus' own rule needs one)."""

    def rule(layer: nn.Module, activations: list[torch.Tensor], backprops: torch.Tensor) -> _Gradients:
        assert isinstance(layer, nn.LayerNorm)
        gradients: _Gradients = {}
        summed = tuple(range(1, backprops.dim() - len(layer.normalized_shape)))
        if any(p is layer.weight for p in parameters):
            normalised = nn.functional.layer_norm(activations[0], layer.normalized_shape, eps=layer.eps)
            product = normalised.mul_(backprops)
            gradients[layer.weight] = product.sum(dim=summed) if summed else product
        if any(p is layer.bias for p in parameters):
            gradients[layer.bias] = backprops.sum(dim=summed) if summed else backprops
        return gradients

    return rule
