"""Per-unit clipping in one backward pass (book-keeping; Bu et al. 2023, arXiv 2210.00038).

The clipped sum of a batch is ``sum_i G_i * min(1, C' / ||G_i||)`` with ``C' = C (1 - ROUNDING_MARGIN)``, where
``G_i`` is the gradient of unit ``i`` over all trainable parameters together (flat clipping; Abadi et al. 2016,
Algorithm 1). Adding or removing one unit moves it by at most C in Euclidean norm: that is the sensitivity the
noise is calibrated against. Norms, factors and sums are float32 whatever the type of activations (PRIVACY P12).

    ========================== ==========================================
    gradient of a unit         its contribution
    ========================== ==========================================
    norm below C'              itself
    norm above C'              scaled to norm C'
    all zero                   zero
    holds NaN or an infinity   zero, and the step goes on
    norm overflows float32     zero
    ========================== ==========================================

The backward pass computes gradients of activations alone. Trainable parameters are frozen meanwhile, and each
layer that holds some has its inputs and its output remembered; where nothing below a layer trains, the pass
stops there. Norms and sums then come from ``client.layer_gradients``. A layer of a kind that is unknown there is
left to Opacus' rule for it, which makes gradients for each row, with one line in the log.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

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
from client.units import Slots, Units
from common.errors import HanseError

__all__ = ["ROUNDING_MARGIN", "ClippedBackward", "clip_factors"]

ROUNDING_MARGIN = 1e-4
"""C is reduced by this share, which covers float32 rounding in norms and sums of up to 1e9 terms."""

_log = logging.getLogger(__name__)
_Gradients: TypeAlias = dict[nn.Parameter, torch.Tensor]
_Rule: TypeAlias = Callable[[nn.Module, list[torch.Tensor], torch.Tensor], _Gradients]


@dataclass
class _Call:
    """One call of a layer in the forward pass."""

    layer: nn.Module
    inputs: torch.Tensor
    output: torch.Tensor


def clip_factors(squared_norms: torch.Tensor, max_grad_norm: float) -> torch.Tensor:
    """Factor in [0, 1] for each unit, float32 ``(units,)``; 0 where the norm is not finite."""
    norms = squared_norms.float().sqrt()
    factors = (max_grad_norm * (1 - ROUNDING_MARGIN) / norms).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


class ClippedBackward:
    """A network whose backward pass adds clipped sums to its parameters' ``summed_grad``.

    For each physical batch: call it, then :meth:`backward` with the losses of the rows. Parameters that train
    must belong to one layer each.
    """

    def __init__(self, network: nn.Module, parameters: Sequence[nn.Parameter], max_grad_norm: float) -> None:
        """Take over ``network``, of which ``parameters`` train; ``max_grad_norm`` is C.

        Raises:
            HanseError: a parameter belongs to two layers, or to none.
        """
        self._network = network
        self._parameters_by_layer = _owners(network, parameters)
        self._trained = list(parameters)
        self._max_grad_norm = max_grad_norm
        self._calls: list[_Call] = []
        self._hooks = [
            layer.register_forward_hook(self._remember, with_kwargs=True) for layer in self._parameters_by_layer
        ]

    def __call__(self, **inputs: torch.Tensor) -> Any:
        """The network's own forward pass, its trainable layers remembered until :meth:`backward`."""
        self._calls.clear()
        with _frozen(self._trained):
            return self._network(**inputs)

    def backward(self, losses: torch.Tensor, units: Units | None = None) -> None:
        """Clip the units' gradients and add them to each parameter's ``summed_grad``; one backward pass.

        Args:
            losses: one for each row, ``(rows,)``.
            units: how rows form units; None where each row is one.

        Raises:
            HanseError: a parameter would go unclipped: its layer was not reached, or mixes rows.
        """
        slots = Slots.of(units, len(losses), losses.device)
        if not slots.units:
            self._calls.clear()
            for parameter in self._trained:
                if getattr(parameter, "summed_grad", None) is None:
                    parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float32)  # type: ignore[attr-defined]
            return
        gradients = self._gradients(losses, slots)
        if missing := [p for p in self._trained if id(p) not in {id(each.parameter) for each in gradients}]:
            raise HanseError(
                f"a trainable parameter of shape {tuple(missing[0].shape)} has no gradient by row and would go "
                "unclipped; this model cannot be trained privately as it is"
            )
        squares = torch.stack([each.squared_norms() for each in gradients]).sum(0)
        self._add(gradients, clip_factors(squares, self._max_grad_norm))

    def _add(self, gradients: list[LayerGradient], factors: torch.Tensor) -> None:
        """Add the units' gradients, each times its factor, to the parameters' sums."""
        if bool((factors == 0).any()):
            alive = factors.nonzero().squeeze(1)
            factors = factors[alive]
            for each in gradients:
                each.keep(alive)
        for each in gradients:
            total, parameter = each.weighted_sum(factors), each.parameter
            previous = getattr(parameter, "summed_grad", None)
            parameter.summed_grad = total if previous is None else previous.add_(total)  # type: ignore[attr-defined]

    def cleanup(self) -> None:
        """Take all hooks off the network again."""
        while self._hooks:
            self._hooks.pop().remove()
        self._calls.clear()

    def _remember(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        if not torch.is_grad_enabled():
            return output
        if not isinstance(output, torch.Tensor):
            raise HanseError(f"a trainable {type(layer).__name__} returns no tensor and would go unclipped")
        # Frozen parameters need no gradient; the output of the lowest trainable layer is where the pass ends.
        traced = output if output.requires_grad else output.detach().requires_grad_()
        inputs = given[0] if given else next(iter(named.values()))
        self._calls.append(_Call(layer, inputs.detach(), traced))
        return traced

    def _gradients(self, losses: torch.Tensor, slots: Slots) -> list[LayerGradient]:
        calls, self._calls = self._calls, []
        found = torch.autograd.grad(losses.sum(), [call.output for call in calls], allow_unused=True)
        by_layer: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for call, gradient in zip(calls, found, strict=True):
            given = torch.zeros_like(call.output) if gradient is None else gradient
            by_layer[call.layer].append((call.inputs, given))
        inputs_seen: dict[tuple[object, ...], SharedInput] = {}
        gradients: list[LayerGradient] = []
        for layer, pairs in by_layer.items():
            for inputs, outputs in pairs:
                if len(inputs) != slots.rows or len(outputs) != slots.rows:
                    raise HanseError(
                        f"a trainable {type(layer).__name__} saw {len(outputs)} rows in a batch of {slots.rows}: "
                        "it mixes rows, whose gradients would go unclipped"
                    )
            gradients += _layer_gradients(layer, self._parameters_by_layer[layer], pairs, slots, inputs_seen)
        return gradients


@contextmanager
def _frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the context autograd computes no gradient of these parameters."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _owners(network: nn.Module, parameters: Sequence[nn.Parameter]) -> dict[nn.Module, list[nn.Parameter]]:
    wanted = {id(parameter) for parameter in parameters}
    owners: dict[nn.Module, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for layer in network.modules():
        own = [p for p in layer.parameters(recurse=False) if id(p) in wanted]
        if twice := [p for p in own if id(p) in seen]:
            raise HanseError(
                f"a trainable parameter of shape {tuple(twice[0].shape)} is shared by two layers (tied weights); "
                "its gradient cannot be clipped by row"
            )
        seen |= {id(p) for p in own}
        if own:
            owners[layer] = own
    if seen != wanted:
        raise HanseError("a parameter that is to train does not belong to the network")
    return owners


def _layer_gradients(
    layer: nn.Module,
    parameters: list[nn.Parameter],
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
    slots: Slots,
    inputs_seen: dict[tuple[object, ...], SharedInput],
) -> list[LayerGradient]:
    """The gradients of a layer's parameters over all its calls, whose tokens follow one another."""
    if type(layer) is nn.Linear:
        outputs = _joined([slots.spread(_tokens(g), weighted=True) for _, g in pairs])
        found: list[LayerGradient] = []
        if any(p is layer.weight for p in parameters):
            found.append(weight_gradient(layer.weight, _shared(pairs, slots, inputs_seen), outputs))
        if any(p is layer.bias for p in parameters):
            found.append(BiasGradient(layer.bias, outputs))
        return found
    if type(layer) is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq:
        indexes = _joined([slots.spread(a.reshape(len(a), -1, 1), weighted=False) for a, _ in pairs])
        outputs = _joined([slots.spread(_tokens(g), weighted=True) for _, g in pairs])
        if layer.padding_idx is not None:
            outputs = outputs * (indexes != layer.padding_idx)
        return [EmbeddingGradient(layer.weight, indexes.squeeze(2), outputs)]
    return _explicit(layer, parameters, pairs, slots)


def _tokens(values: torch.Tensor) -> torch.Tensor:
    """As ``(rows, tokens, n)`` in float32."""
    return values.reshape(len(values), -1, values.shape[-1]).float()


def _shared(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], slots: Slots, seen: dict[tuple[object, ...], SharedInput]
) -> SharedInput:
    """The calls' inputs one after another; one object for layers that were called on the very same tensors."""
    key = tuple((a.data_ptr(), a.shape, a.stride(), a.dtype) for a, _ in pairs)
    if key not in seen:
        seen[key] = SharedInput(_joined([slots.spread(_tokens(a), weighted=False) for a, _ in pairs]))
    return seen[key]


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _explicit(
    layer: nn.Module,
    parameters: list[nn.Parameter],
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
    slots: Slots,
) -> list[LayerGradient]:
    rule = _layer_norm_rule(parameters) if type(layer) is nn.LayerNorm else _opacus_rule(type(layer))
    totals: dict[int, torch.Tensor] = {}
    for inputs, outputs in pairs:
        for parameter, gradient in rule(layer, [inputs.float()], outputs.float()).items():
            if gradient is not None:
                flat = slots.spread(gradient.reshape(slots.rows, 1, parameter.numel()).float(), weighted=True)
                total = flat.sum(1)
                totals[id(parameter)] = totals[id(parameter)] + total if id(parameter) in totals else total
    return [ExplicitGradient(p, totals[id(p)].view(slots.units, *p.shape)) for p in parameters if id(p) in totals]


def _opacus_rule(kind: type[nn.Module]) -> _Rule:
    rule = GradSampleModule.GRAD_SAMPLERS.get(kind)
    if rule is None:
        raise HanseError(f"a trainable layer of kind {kind.__name__} has no rule for gradients by row")
    _tell_once(kind.__name__)
    return rule  # type: ignore[no-any-return]  # Opacus is untyped


@lru_cache(maxsize=64)
def _tell_once(kind: str) -> None:
    _log.warning("%s: gradients by row from Opacus' rule, which is slower", kind)


def _layer_norm_rule(parameters: list[nn.Parameter]) -> _Rule:
    """Gradients of a LayerNorm by row, with or without a bias (Opacus' own rule needs one)."""

    def rule(layer: nn.Module, activations: list[torch.Tensor], backprops: torch.Tensor) -> _Gradients:
        assert isinstance(layer, nn.LayerNorm)
        gradients: _Gradients = {}
        summed = tuple(range(1, backprops.dim() - len(layer.normalized_shape)))
        if any(p is layer.weight for p in parameters):
            normalised = nn.functional.layer_norm(activations[0], layer.normalized_shape, eps=layer.eps)
            product = normalised * backprops
            gradients[layer.weight] = product.sum(dim=summed) if summed else product
        if any(p is layer.bias for p in parameters):
            gradients[layer.bias] = backprops.sum(dim=summed) if summed else backprops
        return gradients

    return rule
