"""One institution behind one small interface: a plan and weights in, an update out.

In a simulation the site is virtual and lives in the process that runs the Flower client; in a deployment the
same interface will be served by the institution's own guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.training import (
    LocalOptimizer,
    StepPlan,
    Trainee,
    TrainingBatch,
    train_privately,
    train_without_privacy,
)
from common.device import autocast
from common.errors import BadInput
from common.features import FrozenFeatures
from common.model import Classifier, Logits
from common.privacy.accounting import noise_multiplier_for
from common.privacy.randomness import Randomness, SeededRandomness, SystemRandomness
from common.schedule import planned_steps
from common.study import Study
from common.text import TokenizedTexts, batches
from common.weights import Weights
from common.wire import Phase, RoundPlan, SiteDescription, Update

__all__ = ["Site", "SiteFacts"]


@dataclass(frozen=True)
class SiteFacts:
    """What the institution's officer declares; nothing here is computed from data."""

    name: str
    partition: int
    declared_size: int


class Site:
    """An institution: its declared facts, its texts, and a model to train."""

    def __init__(self, facts: SiteFacts, study: Study, texts: TokenizedTexts, classifier: Classifier) -> None:
        """Calibrate the site's noise; ``classifier`` may be shared by the sites of one process.

        Raises:
            BadInput: the expected batch is larger than the declared size.
        """
        if study.privacy.batch_size > facts.declared_size:
            raise BadInput(
                f"privacy.batch_size = {study.privacy.batch_size}: more than the {facts.declared_size} units "
                f"that site {facts.name} declares; at most a tenth of the smallest site is a good start"
            )
        self.facts = facts
        self._study = study
        self._texts = texts
        self._classifier = classifier
        self._features = FrozenFeatures(texts)
        self._precision = autocast(study.training, next(classifier.parameters()).device)
        self._noise_multiplier = _calibrated(study, facts) if study.privacy.enabled else 0.0

    def describe(self) -> SiteDescription:
        """What the site says of itself."""
        study, facts = self._study, self.facts
        equal = study.federation.weighting == "equal"
        return SiteDescription(
            name=facts.name,
            partition=facts.partition,
            declared_size=facts.declared_size,
            weight=study.site_section(facts.name).weight or (1.0 if equal else float(facts.declared_size)),
            epsilon=study.epsilon_of(facts.name),
            delta=study.delta_of(facts.declared_size),
            noise_multiplier=self._noise_multiplier,
        )

    def train(self, plan: RoundPlan, weights: Weights) -> Update:
        """Take the round's local steps from the global weights."""
        study = self._study
        head_only = plan.phase is Phase.WARM_START or study.model.trainable == "head"
        if plan.phase is Phase.WARM_START:
            # Only the head travels: the encoder must be the one that all sites were built with.
            self._classifier.load(self._classifier.initial)
        self._classifier.load(weights)
        steps = self._step_plan(plan.steps)
        randomness = self._randomness(plan.round)
        draws = [randomness.poisson_batch(len(self._texts), steps.sample_rate) for _ in range(plan.steps)]
        optimizer = self._optimizer(plan.phase)
        with _only_trainable(self._classifier, head_only) as parameters:
            trainee = self._head_trainee(parameters, draws) if head_only else self._trainee(parameters)
            if study.privacy.enabled:
                train_privately(trainee, steps, optimizer, draws, randomness)
            else:
                train_without_privacy(trainee, steps, optimizer, draws)
        mechanism = steps.mechanism if study.privacy.enabled else steps.mechanism_without_privacy
        return Update(self.facts.name, plan.round, self._classifier.weights(head_only), mechanism)

    def _step_plan(self, steps: int) -> StepPlan:
        privacy = self._study.privacy
        return StepPlan(
            sample_rate=privacy.batch_size / self.facts.declared_size,
            noise_multiplier=self._noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=float(privacy.batch_size),
            steps=steps,
        )

    def _randomness(self, round_number: int) -> Randomness:
        if self._study.privacy.enabled:
            return SystemRandomness()
        return SeededRandomness(self._study.study.seed, self.facts.partition, round_number)

    def _optimizer(self, phase: Phase) -> LocalOptimizer:
        study = self._study
        rate = study.training.learning_rate
        if phase is Phase.WARM_START:
            rate = study.model.warm_start_learning_rate
        return LocalOptimizer.of(study.training, rate, study.federation.proximal_mu)

    def _trainee(self, parameters: list[nn.Parameter]) -> Trainee:
        device, size = parameters[0].device, self._physical_batch_size

        def physical(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            for batch in batches(self._texts, indexes, size):
                inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
                yield TrainingBatch(inputs, batch.labels.to(device))

        return Trainee(self._classifier, parameters, physical, self._precision)

    def _head_trainee(self, parameters: list[nn.Parameter], draws: list[NDArray[np.int64]]) -> Trainee:
        device = parameters[0].device
        # One pass over everything the round draws, in buckets of length, before the cheap steps.
        self._features_of(np.unique(np.concatenate(draws)))

        def physical(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            if len(indexes):
                labels = torch.from_numpy(self._texts.labels[indexes]).to(device)
                yield TrainingBatch({"features": self._features_of(indexes)}, labels)

        return Trainee(_Head(self._classifier), parameters, physical)

    def _features_of(self, indexes: NDArray[np.int64]) -> torch.Tensor:
        return self._features.of(indexes, self._classifier, 2 * self._physical_batch_size, self._precision)

    @property
    def _physical_batch_size(self) -> int:
        size = self._study.training.physical_batch_size
        assert isinstance(size, int)  # "auto" is refused when the study is parsed
        return size


class _Head(nn.Module):
    """The classifier's head as a network of its own, fed with features."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: torch.Tensor) -> Logits:
        return Logits(self.classifier.classify(features))


class _only_trainable(AbstractContextManager[list[nn.Parameter]]):  # noqa: N801 - reads as a statement
    """Within the context only the head trains (``head_only``), or all that the study trains."""

    def __init__(self, classifier: Classifier, head_only: bool) -> None:
        self._all = classifier.trainable()
        self._chosen = classifier.trainable(head_only)

    def __enter__(self) -> list[nn.Parameter]:
        for name, parameter in self._all.items():
            parameter.requires_grad_(name in self._chosen)
        return list(self._chosen.values())

    def __exit__(self, *exception: object) -> None:
        for parameter in self._all.values():
            parameter.requires_grad_(True)


def _calibrated(study: Study, facts: SiteFacts) -> float:
    phase = (study.privacy.batch_size / facts.declared_size, planned_steps(study))
    return noise_multiplier_for(study.epsilon_of(facts.name), study.delta_of(facts.declared_size), [phase])
