"""A site's own training loop, watched from outside: who was in each batch, and what each step released.

Sampler, batching, clipping, noise and optimizer are those of ``client``, called as a site calls them. The seams
are two: rows carry their number where their label belongs, which is given back before the loss is computed; and
torch tells before each optimizer step what gradient it is about to take. A step of this loop sees the private
data through that gradient alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client.trainer import LocalTrainer, SiteFacts
from client.training import LocalOptimizer, StepPlan, Trainee, TrainingBatch, train_privately
from common.model import Classifier
from common.privacy.randomness import Randomness
from common.study import Study
from common.weights import Weights
from common.wire import RoundPlan, Update
from deploy.audit.canaries import AuditedTexts, CanaryNetwork

__all__ = ["AuditedTrainer", "Released", "Watch", "watching"]

Released: TypeAlias = Mapping[str, torch.Tensor]
"""By parameter: the gradient that a step takes, times the expected batch size, in units of max_grad_norm."""

Watch: TypeAlias = Callable[[CanaryNetwork, NDArray[np.int64], Released], None]
"""Called before each optimizer step: the network, the texts whose rows were in the batch, what is released."""


@dataclass(frozen=True)
class _Unit:
    """What turns a gradient into a sum in units of C."""

    expected_batch_size: float
    max_grad_norm: float


class AuditedTrainer:
    """A site's trainer over texts and canaries; every step is watched."""

    def __init__(
        self,
        facts: SiteFacts,
        study: Study,
        audited: AuditedTexts,
        classifier: Classifier,
        noise_multiplier: float,
        watch: Watch,
    ) -> None:
        """As ``client.trainer.LocalTrainer``; what it trains is a copy for the audit, never to be released."""
        numbered = replace(audited.texts, labels=np.arange(len(audited.texts)))
        self._trainer = _Numbered(facts, study, numbered, classifier, noise_multiplier)
        self._trainer.wrap = self._watched
        self._audited, self._study, self._watch = audited, study, watch
        self._names = {id(parameter): name for name, parameter in classifier.named_parameters()}
        self._network: CanaryNetwork | None = None
        self._seen: list[int] = []

    def train(self, plan: RoundPlan, weights: Weights) -> Update:
        """One round, as the site takes it."""
        privacy = self._study.privacy
        unit = _Unit(float(privacy.batch_size), privacy.max_grad_norm)
        with watching(lambda parameters: self._step(parameters, unit)):
            return self._trainer.train(plan, weights)

    def step(self, plan: StepPlan, units: NDArray[np.int64], randomness: Randomness) -> None:
        """One step of plain SGD over these units, as ``client.training`` takes it."""
        sgd = LocalOptimizer("sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0)
        trainee = self._trainer.trainee(list(self._trainer.classifier.trainable().values()))
        unit = _Unit(plan.expected_batch_size, plan.max_grad_norm)
        with watching(lambda parameters: self._step(parameters, unit)):
            train_privately(trainee, plan, sgd, [units], randomness)

    def _watched(self, trainee: Trainee) -> Trainee:
        labels, audited = len(self._study.task.labels), self._audited
        network = CanaryNetwork(trainee.network, audited.canaries, audited.norm, labels)
        self._network = network.to(trainee.parameters[0].device)
        own = self._network.own_parameters()
        self._names |= {id(parameter): name for name, parameter in own.items()}
        self._seen = []

        def batches(units: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            for batch in trainee.batches(units):
                rows = batch.labels.cpu().numpy()
                self._seen += rows.tolist()
                codes = torch.from_numpy(audited.codes[rows]).to(batch.labels.device)
                known = torch.from_numpy(audited.texts.labels[rows]).to(batch.labels.device)
                yield replace(batch, inputs=batch.inputs | {"canary": codes}, labels=known)

        return replace(
            trainee, network=self._network, parameters=[*trainee.parameters, *own.values()], batches=batches
        )

    def _step(self, parameters: list[nn.Parameter], unit: _Unit) -> None:
        assert self._network is not None  # a step comes after its trainee
        share = unit.expected_batch_size / unit.max_grad_norm
        released = {self._names[id(p)]: p.grad.detach().double() * share for p in parameters if p.grad is not None}
        seen, self._seen = np.array(self._seen, dtype=np.int64), []
        self._watch(self._network, seen, released)


class _Numbered(LocalTrainer):
    """The site's trainer; what it is about to train passes through ``wrap``."""

    wrap: Callable[[Trainee], Trainee]

    def trainee(self, parameters: list[nn.Parameter]) -> Trainee:
        return self.wrap(super().trainee(parameters))

    def head_trainee(self, parameters: list[nn.Parameter], draws: list[NDArray[np.int64]]) -> Trainee:
        return self.wrap(super().head_trainee(parameters, draws))


@contextmanager
def watching(told: Callable[[list[nn.Parameter]], None]) -> Iterator[None]:
    """Within the context ``told`` hears before every optimizer step of this process, with its parameters."""

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        told([parameter for group in optimizer.param_groups for parameter in group["params"]])

    handle = register_optimizer_step_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
