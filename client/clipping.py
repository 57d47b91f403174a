"""Per-unit clipping in one backward pass (book-keeping; Bu et al. 2023, arXiv 2210.00038).

The clipped sum of a batch is ``sum_i G_i * f(||G_i||)``, where ``G_i`` is the gradient of unit ``i`` over all
trainable parameters together, and with ``C' = C (1 - ROUNDING_MARGIN)``

    flat         ``f = min(1, C' / ||G_i||)``   (Abadi et al. 2016, Algorithm 1)
    automatic    ``f = C' / (||G_i|| + STABILITY)``   (Bu et al. 2022, arXiv 2206.07136, equation 4)

Adding or removing one unit moves the sum by at most C in Euclidean norm under either: that is the sensitivity
the noise is calibrated against, and the accounting is the same. Norms, factors and sums are float32 whatever the
type of activations (PRIVACY P12).

    ========================== =============================== ===============================
    gradient of a unit         its contribution, flat          automatic
    ========================== =============================== ===============================
    norm below C'              itself                          scaled to norm below C'
    norm above C'              scaled to norm C'               scaled to norm below C'
    all zero                   zero                            zero
    holds NaN or an infinity   zero, and the step goes on      zero, and the step goes on
    norm overflows float32     zero                            zero
    ========================== =============================== ===============================

The backward pass computes gradients of activations alone. All parameters are frozen meanwhile, and each layer
that holds some that train has its inputs remembered, where they are needed; where nothing below a layer trains,
the pass stops there. What a layer adds to norms and sums is formed as soon as its output's gradient arrives
(``client.layer_rules``, ``client.layer_gradients``), so that what is not needed any more can be freed at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from client.layer_gradients import LayerGradient
from client.layer_rules import LayerCall, SharedInputs, layer_gradients, needs_inputs
from client.units import Slots, Units
from common.errors import HanseError

__all__ = ["ROUNDING_MARGIN", "STABILITY", "ClippedBackward", "Clipping", "clip_factors"]

Clipping: TypeAlias = Literal["flat", "automatic"]
"""How a gradient's norm becomes its factor; see the table above."""

ROUNDING_MARGIN = 1e-4
"""C is reduced by this share, which covers float32 rounding in norms and sums of up to 1e9 terms."""

STABILITY = 0.01
"""Gamma of Bu et al. 2022: added to a norm, so that a vanishing gradient is not blown up."""


def clip_factors(squared_norms: torch.Tensor, max_grad_norm: float, clipping: Clipping = "flat") -> torch.Tensor:
    """Factor of each unit's gradient, float32 ``(units,)``; 0 where the norm is not finite.

    Args:
        squared_norms: from above, ``(units,)``.
        max_grad_norm: C, which no gradient times its factor exceeds.
        clipping: ``flat``: at most 1. ``automatic``: at most C over :data:`STABILITY`.
    """
    norms = squared_norms.float().sqrt()
    bound = max_grad_norm * (1 - ROUNDING_MARGIN)
    factors = bound / (norms + STABILITY) if clipping == "automatic" else (bound / norms).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


@dataclass(eq=False)
class _Call:
    """One call of a layer in the forward pass, and what has come back for it."""

    layer: nn.Module
    inputs: torch.Tensor | None
    version: int
    """Of the inputs when the layer took them."""
    rows: tuple[int, int]
    """Of inputs and output."""
    gradient: torch.Tensor
    """Of the output; zeros without memory of their own until it arrives."""

    def whole(self) -> LayerCall:
        """What the layer's rule takes; the call itself forgets it. Raises as :meth:`ClippedBackward.backward`."""
        if self.inputs is not None and self.inputs._version != self.version:
            kind = type(self.layer).__name__
            raise HanseError(f"the input of a trainable {kind} was changed in place after the layer took it")
        made = LayerCall(self.inputs, self.gradient)
        self.inputs = None
        self.gradient = self.gradient.new_zeros(())
        return made


class _Pass:
    """One backward pass: takes gradients of layers' outputs in any order, and gathers those of parameters."""

    def __init__(
        self, calls: Sequence[_Call], parameters: dict[nn.Module, list[nn.Parameter]], slots: Slots
    ) -> None:
        self.gradients: list[LayerGradient] = []
        self.squares: torch.Tensor | None = None
        self._parameters = parameters
        self._slots = slots
        self._shared = SharedInputs()
        self._calls: dict[nn.Module, list[_Call]] = defaultdict(list)
        for call in calls:
            self._calls[call.layer].append(call)
        self._awaited = {layer: len(own) for layer, own in self._calls.items()}

    def take(self, call: _Call, gradient: torch.Tensor) -> None:
        """The gradient of a call's output; the layer's last one settles the layer."""
        call.gradient = gradient
        self._awaited[call.layer] -= 1
        if not self._awaited[call.layer]:
            self._settle(call.layer)

    def finish(self) -> None:
        """Settle layers whose outputs the losses do not depend on; their gradients are zero."""
        for layer in [layer for layer, awaited in self._awaited.items() if awaited]:
            self._settle(layer)

    def _settle(self, layer: nn.Module) -> None:
        calls, rows = self._calls.pop(layer), self._slots.rows
        for call in calls:
            if call.rows != (rows, rows):
                raise HanseError(
                    f"a trainable {type(layer).__name__} saw {call.rows[1]} rows in a batch of {rows}: "
                    "it mixes rows, whose gradients would go unclipped"
                )
        whole = [call.whole() for call in calls]
        for each in layer_gradients(layer, self._parameters[layer], whole, self._slots, self._shared):
            squares = each.squared_norms()  # now, while the gradient is still in the processor's cache
            self.squares = squares if self.squares is None else self.squares + squares
            self.gradients.append(each)


class ClippedBackward:
    """A network whose backward pass adds clipped sums to its parameters' ``summed_grad``.

    For each physical batch: call it, then :meth:`backward` with the losses of the rows. Parameters that train
    must belong to one layer each.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: Sequence[nn.Parameter],
        max_grad_norm: float,
        clipping: Clipping = "flat",
    ) -> None:
        """Take over ``network``, of which ``parameters`` train; ``max_grad_norm`` is C.

        Raises:
            HanseError: a parameter belongs to two layers, or to none.
        """
        self._network = network
        self._parameters_by_layer = _owners(network, parameters)
        self._trained = list(parameters)
        self._max_grad_norm = max_grad_norm
        self._clipping = clipping
        self._remembers = False
        self._calls: list[_Call] = []
        self._leaves: list[torch.Tensor] = []
        self._pass: _Pass | None = None
        self._hooks = [
            layer.register_forward_hook(self._remember, with_kwargs=True) for layer in self._parameters_by_layer
        ]

    def __call__(self, **inputs: torch.Tensor) -> Any:
        """The network's own forward pass, its trainable layers remembered until :meth:`backward`."""
        self._forget()
        self._remembers = True
        try:
            with _frozen(self._network):
                return self._network(**{name: value.detach() for name, value in inputs.items()})
        finally:
            self._remembers = False

    def backward(self, losses: torch.Tensor, units: Units | None = None) -> None:
        """Clip the units' gradients and add them to each parameter's ``summed_grad``; one backward pass.

        Args:
            losses: one for each row, ``(rows,)``.
            units: how rows form units; None where each row is one.

        Raises:
            HanseError: a parameter would go unclipped: its layer was not reached, mixes rows, or took an input
                that was changed afterwards.
        """
        slots = Slots.of(units, len(losses), losses.device)
        if not slots.units:
            self._forget()
            for parameter in self._trained:
                if getattr(parameter, "summed_grad", None) is None:
                    parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float32)  # type: ignore[attr-defined]
            return
        gradients, squares = self._gradients(losses, slots)
        if missing := [p for p in self._trained if id(p) not in {id(each.parameter) for each in gradients}]:
            raise HanseError(
                f"a trainable parameter of shape {tuple(missing[0].shape)} has no gradient by row and would go "
                "unclipped; this model cannot be trained privately as it is"
            )
        self._add(gradients, clip_factors(squares, self._max_grad_norm, self._clipping))

    def _add(self, gradients: list[LayerGradient], factors: torch.Tensor) -> None:
        """Add the units' gradients, each times its factor, to the parameters' sums."""
        if bool((factors == 0).any()):
            alive = factors.nonzero().squeeze(1)
            factors = factors[alive]
            for each in gradients:
                each.keep(alive)
        gradients.reverse()  # embeddings last: their large tables then fit where the layers' tensors were
        while gradients:
            each = gradients.pop()
            parameter = each.parameter
            parameter.summed_grad = each.weighted_sum(factors, getattr(parameter, "summed_grad", None))  # type: ignore[attr-defined]

    def cleanup(self) -> None:
        """Take all hooks off the network again."""
        while self._hooks:
            self._hooks.pop().remove()
        self._forget()

    def _forget(self) -> None:
        self._calls, self._leaves = [], []

    def _remember(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        recomputed = self._pass is not None  # by gradient checkpointing, which must meet the same graph
        if not (self._remembers or recomputed) or not torch.is_grad_enabled():
            return output
        if not isinstance(output, torch.Tensor):
            raise HanseError(f"a trainable {type(layer).__name__} returns no tensor and would go unclipped")
        # Frozen parameters need no gradient; the output of the lowest trainable layer is where the pass ends.
        traced = output if output.requires_grad else output.detach().requires_grad_()
        if recomputed:
            return traced
        if traced.is_leaf:
            self._leaves.append(traced)
        inputs = (given[0] if given else next(iter(named.values()))).detach()
        needed = inputs if needs_inputs(layer, self._parameters_by_layer[layer]) else None
        nothing = traced.detach().new_zeros(()).expand(traced.shape)
        call = _Call(layer, needed, inputs._version, (len(inputs), len(output)), nothing)
        self._calls.append(call)
        traced.register_hook(partial(self._arrived, call))  # type: ignore[no-untyped-call]  # torch's own
        return traced

    def _arrived(self, call: _Call, gradient: torch.Tensor) -> None:
        if self._pass is not None:
            self._pass.take(call, gradient)

    def _gradients(self, losses: torch.Tensor, slots: Slots) -> tuple[list[LayerGradient], torch.Tensor]:
        """The parameters' gradients by unit, and the units' squared norms over all of them."""
        found = self._pass = _Pass(self._calls, self._parameters_by_layer, slots)
        leaves = self._leaves
        self._forget()
        try:
            with _frozen(self._network):
                torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
            found.finish()
        finally:
            self._pass = None
        squares = torch.zeros(slots.units, device=losses.device) if found.squares is None else found.squares
        return found.gradients, squares


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within the context autograd computes no gradient of any parameter of the network."""
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free:
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
