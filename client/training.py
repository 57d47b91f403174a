"""The local loop: Poisson batches, clipping of each unit, noise, optimizer step.

Sampler, clipping norm, noise and the mechanism that goes on record come from one frozen value,
:class:`StepPlan`, so that they cannot drift apart (PRIVACY P12). No Opacus type leaves this room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.clipping import ClippedBackward, Clipping
from client.noisy_sum import NoisyClippedSum
from client.units import Units
from common.privacy.mechanism import Mechanism, SampledGaussian
from common.privacy.randomness import Randomness
from common.study import TrainingSection
from common.token_targets import UNLABELLED

__all__ = [
    "LocalOptimizer",
    "StepPlan",
    "Trainee",
    "TrainingBatch",
    "example_losses",
    "train_privately",
    "train_without_privacy",
]


@dataclass(frozen=True)
class StepPlan:
    """One DP-SGD step, and how often it is taken."""

    sample_rate: float
    """q: probability of each unit, from the declared size."""
    noise_multiplier: float
    """sigma: noise standard deviation of the sum over max_grad_norm."""
    max_grad_norm: float
    """C."""
    expected_batch_size: float
    """Divides the noisy sum: q times the declared size."""
    steps: int
    clipping: Clipping = "flat"
    """How a unit's gradient is brought to a norm of at most C; it changes neither sensitivity nor mechanism."""

    @property
    def mechanism(self) -> Mechanism:
        """What these steps release."""
        return SampledGaussian(self.sample_rate, self.noise_multiplier, self.steps)


@dataclass(frozen=True)
class LocalOptimizer:
    """How a site turns a gradient into a step."""

    kind: str
    learning_rate: float
    momentum: float
    weight_decay: float
    proximal_mu: float = 0.0

    @classmethod
    def of(cls, section: TrainingSection, learning_rate: float, proximal_mu: float) -> LocalOptimizer:
        """The optimizer that a study's ``[training]`` asks for, at the phase's learning rate."""
        return cls(section.optimizer, learning_rate, section.momentum, section.weight_decay, proximal_mu)

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh torch optimizer over ``parameters``."""
        if self.kind == "adamw":
            return torch.optim.AdamW(
                parameters, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay
            )
        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


@dataclass(frozen=True)
class TrainingBatch:
    """A physical batch as the network takes it."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    units: torch.Tensor | None = None
    """Person of each row, numbered from 0 in this batch, int64 ``(batch,)``; all rows of a person are in one
    batch. None: each row is a unit of its own."""
    weights: torch.Tensor | None = None
    """Share of each row in its person's gradient, float32 ``(batch,)``: one over the person's rows."""


@dataclass(frozen=True)
class Trainee:
    """What is trained, and how it is fed."""

    network: nn.Module
    """``network(**inputs)`` returns an object with ``logits`` ``(batch, labels)``, or one row for each labelled
    token, ``(batch, labelled, labels)``."""
    parameters: Sequence[nn.Parameter]
    """Every parameter that trains."""
    batches: Callable[[NDArray[np.int64]], Iterator[TrainingBatch]]
    """Turns the units of a logical batch, by index, into physical batches of whole units."""
    precision: Callable[[], AbstractContextManager[None]] = nullcontext
    """Context of a forward pass."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all labels."""
    perturbed: Callable[[TrainingBatch], AbstractContextManager[None]] = lambda _: nullcontext()
    """Context in which each example of the batch is moved against itself (``client.adversarial``), or is not."""

    def losses(self, logits: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
        """Loss of each example of the batch by itself, ``(batch,)``."""
        return example_losses(logits, batch.labels, self.label_smoothing)


def train_privately(
    trainee: Trainee,
    plan: StepPlan,
    optimizer: LocalOptimizer,
    draws: Sequence[NDArray[np.int64]],
    randomness: Randomness,
) -> None:
    """Take one DP-SGD step per drawn batch, in place.

    The loss of an example is its own cross-entropy, never normalised over the batch (PRIVACY P11). Where a batch
    names persons, a person's gradient is the mean over the person's rows, clipped as one.
    """
    parameters = trainee.parameters
    trainee.network.train()
    clipped = ClippedBackward(trainee.network, parameters, plan.max_grad_norm, plan.clipping)
    noisy = NoisyClippedSum(
        optimizer.build(parameters),
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch_size=plan.expected_batch_size,
        noise=randomness,
    )
    start = [parameter.detach().clone() for parameter in parameters] if optimizer.proximal_mu else []
    try:
        for indexes in draws:
            for batch in trainee.batches(indexes):
                with trainee.precision(), trainee.perturbed(batch):
                    logits = clipped(**batch.inputs).logits
                units = None
                if batch.units is not None and batch.weights is not None:
                    units = Units(batch.units, batch.weights)
                clipped.backward(trainee.losses(logits, batch), units)
            noisy.noisy_step(optimizer.proximal_mu, start)
    finally:
        clipped.cleanup()
        trainee.network.eval()


def train_without_privacy(
    trainee: Trainee, plan: StepPlan, optimizer: LocalOptimizer, draws: Sequence[NDArray[np.int64]]
) -> None:
    """Take the same steps without clipping and noise, for comparison; nothing about it is private."""
    trainee.network.train()
    step = optimizer.build(trainee.parameters)
    start = [parameter.detach().clone() for parameter in trainee.parameters]
    for indexes in draws:
        step.zero_grad(set_to_none=True)
        for batch in trainee.batches(indexes):
            with trainee.precision(), trainee.perturbed(batch):
                logits = trainee.network(**batch.inputs).logits
            losses = trainee.losses(logits, batch)
            if batch.weights is not None:
                losses = losses * batch.weights
            torch.autograd.backward(losses.sum() / plan.expected_batch_size)
        for parameter, origin in zip(trainee.parameters, start, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad += optimizer.proximal_mu * (parameter.detach() - origin)
        step.step()
    trainee.network.eval()


def example_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of each example by itself, float32 ``(batch,)`` (PRIVACY P11).

    Where tokens have labels, ``logits`` are ``(batch, labelled, labels)`` and ``labels`` ``(batch, labelled)``:
    the mean over the example's own labelled tokens, 0 where it has none.
    """
    if labels.dim() == 1:
        return nn.functional.cross_entropy(
            logits.float(), labels, reduction="none", label_smoothing=label_smoothing
        )
    losses = nn.functional.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=UNLABELLED,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.view_as(labels).sum(1) / (labels != UNLABELLED).sum(1).clamp(min=1)
