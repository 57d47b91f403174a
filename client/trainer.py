"""Local training at an institution: a round's plan and weights in, an update out.

Whether the institution agrees, and what its budget pays, was settled before (``client.site``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.adversarial import moved_embeddings
from client.physical_batch import physical_batch_size
from client.training import (
    LocalOptimizer,
    StepPlan,
    Trainee,
    TrainingBatch,
    example_losses,
    train_privately,
    train_without_privacy,
)
from common.device import autocast
from common.errors import HanseError
from common.features import FrozenFeatures
from common.model import Classifier, Logits
from common.privacy.randomness import Randomness, SeededRandomness, SystemRandomness
from common.study import Study
from common.study_mechanism import round_mechanism, sample_rate
from common.text import TokenizedTexts, unit_batches
from common.weights import Weights
from common.wire import Phase, RoundPlan, Update

__all__ = ["LocalTrainer", "SiteFacts"]


@dataclass(frozen=True)
class SiteFacts:
    """What the institution's officer declares; nothing here is computed from data."""

    name: str
    partition: int
    declared_size: int


class LocalTrainer:
    """Trains on an institution's texts, for one study."""

    def __init__(
        self,
        facts: SiteFacts,
        study: Study,
        texts: TokenizedTexts,
        classifier: Classifier,
        noise_multiplier: float,
    ) -> None:
        """``classifier`` may be shared by the sites of one process; ``noise_multiplier`` is 0 without privacy."""
        self.facts = facts
        self.classifier = classifier
        self._study = study
        self._texts = texts
        self._texts_of_round = texts
        self._features = FrozenFeatures(texts)
        self._precision = autocast(study.training, next(classifier.parameters()).device)
        self._noise_multiplier = noise_multiplier
        self._physical_batch_size = physical_batch_size(study, classifier)

    def train(self, plan: RoundPlan, weights: Weights) -> Update:
        """Take the round's local steps from the global weights.

        Raises:
            HanseError: the texts are not in the study's units, so that its guarantee would not hold.
        """
        study = self._study
        if (study.privacy.unit == "group") != (self._texts.persons is not None):
            raise HanseError(f'privacy.unit = "{study.privacy.unit}": the texts were prepared for another unit')
        head_only = plan.phase is Phase.WARM_START or study.model.trainable == "head"
        if plan.phase is Phase.WARM_START:
            # Only the head travels: the encoder must be the one that all sites were built with.
            self.classifier.load(self.classifier.initial)
        self.classifier.load(weights)
        self._texts_of_round = self._texts.in_round(plan.round)
        steps = self._step_plan(plan.steps)
        randomness = self._randomness(plan.round)
        draws = [randomness.poisson_batch(self._texts.units, steps.sample_rate) for _ in range(plan.steps)]
        optimizer = self._optimizer(plan.phase)
        with only_trainable(self.classifier, head_only) as parameters:
            trainee = self.head_trainee(parameters, draws) if head_only else self.trainee(parameters)
            if study.privacy.noised_at_sites:
                train_privately(trainee, steps, optimizer, draws, randomness)
                mechanism = steps.mechanism
            else:
                train_without_privacy(trainee, steps, optimizer, draws)
                mechanism = round_mechanism(study, self.facts.declared_size, 0.0, plan.steps)
        return Update(self.facts.name, plan.round, self.classifier.weights(head_only), mechanism)

    def _step_plan(self, steps: int) -> StepPlan:
        privacy = self._study.privacy
        return StepPlan(
            sample_rate=sample_rate(self._study, self.facts.declared_size),
            noise_multiplier=self._noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=float(privacy.batch_size),
            steps=steps,
            clipping=self._study.training.clipping,
        )

    def _randomness(self, round_number: int) -> Randomness:
        if self._study.privacy.enabled:
            return SystemRandomness()
        # By its name, so that a site draws the same in a simulation and in a deployment.
        name = int.from_bytes(hashlib.sha256(self.facts.name.encode()).digest()[:8], "big")
        return SeededRandomness(self._study.study.seed, name, round_number)

    def _optimizer(self, phase: Phase) -> LocalOptimizer:
        study = self._study
        rate = study.training.learning_rate
        if phase is Phase.WARM_START:
            rate = study.model.warm_start_learning_rate
        return LocalOptimizer.of(study.training, rate, study.federation.proximal_mu)

    def trainee(self, parameters: list[nn.Parameter]) -> Trainee:
        """The whole network over the site's texts; ``parameters`` train."""
        device, size = parameters[0].device, self._physical_batch_size

        def physical(units: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            for batch in unit_batches(self._texts_of_round, units, size):
                inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
                yield self._training_batch(inputs, batch.labels.to(device), batch.indexes)

        smoothing = self._study.training.label_smoothing
        return Trainee(self.classifier, parameters, physical, self._precision, smoothing, self._perturbed)

    def head_trainee(self, parameters: list[nn.Parameter], draws: list[NDArray[np.int64]]) -> Trainee:
        """The head on frozen features, computed here for all units in ``draws``; ``parameters`` train."""
        device = parameters[0].device
        # One pass over everything the round draws, in buckets of length, before the cheap steps.
        self._features_of(self._texts.of_units(np.unique(np.concatenate(draws))))

        def physical(units: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            indexes = self._texts.of_units(units)
            if len(indexes):
                labels = self._texts.labels_of(indexes).to(device)
                yield self._training_batch({"features": self._features_of(indexes)}, labels, indexes)

        smoothing = self._study.training.label_smoothing
        return Trainee(_Head(self.classifier), parameters, physical, label_smoothing=smoothing)

    def _perturbed(self, batch: TrainingBatch) -> AbstractContextManager[None]:
        """Each example moved against itself, where the study trains adversarially."""
        training = self._study.training
        if not training.adversarial_radius:
            return nullcontext()

        def losses() -> torch.Tensor:
            return example_losses(self.classifier(**batch.inputs).logits, batch.labels, training.label_smoothing)

        embedding = self.classifier.network.get_input_embeddings()
        return moved_embeddings(embedding, losses, training.adversarial_radius)

    def _training_batch(
        self, inputs: dict[str, torch.Tensor], labels: torch.Tensor, indexes: NDArray[np.int64]
    ) -> TrainingBatch:
        """The texts ``indexes``, of whole persons where there are persons, as the network takes them."""
        device = labels.device
        among = self._texts.units_among(indexes)
        if among is None:
            return TrainingBatch(inputs, labels)
        units = torch.from_numpy(among)
        weights = 1.0 / torch.bincount(units)[units].float()
        return TrainingBatch(inputs, labels, units.to(device), weights.to(device))

    def _features_of(self, indexes: NDArray[np.int64]) -> torch.Tensor:
        return self._features.of(indexes, self.classifier, 2 * self._physical_batch_size, self._precision)


class _Head(nn.Module):
    """The classifier's head as a network of its own, fed with features."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: torch.Tensor) -> Logits:
        return Logits(self.classifier.classify(features))


class only_trainable(AbstractContextManager[list[nn.Parameter]]):  # noqa: N801 - reads as a statement
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
