"""Privacy bugs and their variants, each put into the real loop by a test alone.

The seam is the same for all: a name that ``client.training``, ``client.trainer`` or ``client.clipping`` looks up
is replaced for one test by a subclass with the bug. No production path knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import client.clipping
import client.trainer
import client.training
from client.clipping import ClippedBackward, clip_factors
from client.layer_gradients import EmbeddingGradient, LayerGradient
from client.noisy_sum import NoisyClippedSum
from client.trainer import LocalTrainer
from client.training import example_losses
from client.units import Units
from common.privacy.randomness import Randomness, SeededRandomness, SystemRandomness
from common.study import Study
from common.study_mechanism import sample_rate

__all__ = ["PLANTED", "Planted"]

Check = Literal[
    "noise", "independence", "sampler", "empty batches", "steps", "lattice", "sensitivity", "persons", "component"
]


@dataclass(frozen=True)
class Planted:
    """A bug, how to plant it, and the checks that must see it."""

    number: int
    """As in AUDIT.md, section 6."""
    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    seen_by: tuple[Check, ...]


def _replaced(where: Any, name: str, by: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(where, name, by)


class _ScaledForTheMean(NoisyClippedSum):
    """1: noise of sigma C / B is added to the sum, as if it were the mean."""

    def add_noise(self) -> None:
        self.noise_multiplier /= self.expected_batch_size
        super().add_noise()
        self.noise_multiplier *= self.expected_batch_size


def _factor_of_the_mean(squared_norms: torch.Tensor, max_grad_norm: float, *_: object) -> torch.Tensor:
    """2: one factor for all, from the norm of their mean (as of gradients at right angles)."""
    mean = squared_norms.sum() / len(squared_norms) ** 2
    return clip_factors(mean, max_grad_norm).expand(len(squared_norms))


class _LayerByLayer(ClippedBackward):
    """3: each layer is clipped to C by itself."""

    def _add(self, gradients: list[LayerGradient], factors: torch.Tensor) -> None:
        for each in gradients:
            super()._add([each], clip_factors(each.squared_norms(), self._max_grad_norm))


def _without_embeddings(patch: pytest.MonkeyPatch) -> None:
    """4: the norm leaves out what embeddings contribute."""
    patch.setattr(EmbeddingGradient, "squared_norms", lambda self: torch.zeros(len(self.indexes)))


class _Shuffled(SystemRandomness):
    """5: batches are cut from a shuffled epoch."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        super().__init__()
        self._left: list[int] = []

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        size = max(1, round(population * sample_rate))
        if len(self._left) < size:
            self._left = np.random.default_rng().permutation(population).tolist()
        batch, self._left = self._left[:size], self._left[size:]
        return np.sort(np.array(batch, dtype=np.int64))


class _Counting(ClippedBackward):
    """Counts rows and physical batches of a step for the bugs below."""

    rows: ClassVar[int] = 0
    calls: ClassVar[int] = 0

    def backward(self, losses: torch.Tensor, units: Units | None = None) -> None:
        super().backward(losses, units)
        _Counting.rows += len(losses)
        _Counting.calls += 1


class _RealisedBatch(NoisyClippedSum):
    """6: the sum is divided by how many rows there were."""

    def noisy_step(self, *given: Any, **named: Any) -> None:
        self.expected_batch_size = max(1, _Counting.rows)
        _Counting.rows = 0
        super().noisy_step(*given, **named)


class _NoiseOnEveryPart(NoisyClippedSum):
    """7: each physical batch gets noise of its own."""

    def noisy_step(self, *given: Any, **named: Any) -> None:
        whole = self.noise_multiplier
        self.noise_multiplier = whole * max(1, _Counting.calls) ** 0.5
        _Counting.calls = 0
        super().noisy_step(*given, **named)
        self.noise_multiplier = whole


def _counted(buggy: type[NoisyClippedSum]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        _Counting.rows = _Counting.calls = 0
        patch.setattr(client.training, "ClippedBackward", _Counting)
        patch.setattr(client.training, "NoisyClippedSum", buggy)

    return plant


def _one_seed(self: LocalTrainer, round_number: int) -> Randomness:
    """8: every round begins the same stream."""
    return SeededRandomness(self._study.study.seed, self.facts.partition)


def _study_seed(self: LocalTrainer, round_number: int) -> Randomness:
    """9: whoever knows the study knows the noise."""
    return SeededRandomness(self._study.study.seed, self.facts.partition, round_number)


class _FloatingPoint(SystemRandomness):
    """10: noise as floating point numbers give it, off any grid."""

    __slots__ = ()

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        return total + standard_deviation * torch.randn_like(total)


class _PartWithoutNoise(NoisyClippedSum):
    """11: the first parameter, LoRA's A or the head, gets none."""

    def add_noise(self) -> None:
        clean = self.params[0].summed_grad.clone()
        super().add_noise()
        self.params[0].grad = clean


def _rate_after_filtering(study: Study, declared_size: int) -> float:
    """12: q is taken from the rows that a filter left, and accounted from the declared size."""
    return min(1.0, 1.25 * sample_rate(study, declared_size))


class _RowsAsUnits(ClippedBackward):
    """14: each row of a person is clipped by itself."""

    def backward(self, losses: torch.Tensor, units: Units | None = None) -> None:
        super().backward(losses, None)


class _NeverEmpty(SystemRandomness):
    """16: an empty batch is drawn again."""

    __slots__ = ()

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        while True:
            batch = super().poisson_batch(population, sample_rate)
            if len(batch):
                return batch


class _EmptySkipped(NoisyClippedSum):
    """16, variant: no step is taken where nobody was drawn."""

    def noisy_step(self, *given: Any, **named: Any) -> None:
        if _Counting.rows:
            super().noisy_step(*given, **named)
        _Counting.rows = 0


def _factor_without_check(squared_norms: torch.Tensor, max_grad_norm: float, *_: object) -> torch.Tensor:
    """17: a norm that is no number gives a factor that is none."""
    return (max_grad_norm / squared_norms.sqrt()).clamp(max=1.0)


class _NoiseWhereItIsNeeded(NoisyClippedSum):
    """18: only the entries that the clean sum has are kept."""

    def add_noise(self) -> None:
        kept = [parameter.summed_grad != 0 for parameter in self.params]
        super().add_noise()
        for parameter, mask in zip(self.params, kept, strict=True):
            parameter.grad *= mask.view_as(parameter.grad)


def _loss_over_the_batch(logits: torch.Tensor, labels: torch.Tensor, *more: float) -> torch.Tensor:
    """20: a loss is divided by the number of examples that are there."""
    return example_losses(logits, labels, *more) / len(labels)


class _NoiseOnTheLastAlone(NoisyClippedSum):
    """7, variant: half of the steps, counted as accumulation, get no noise."""

    steps: ClassVar[int] = 0

    def add_noise(self) -> None:
        _NoiseOnTheLastAlone.steps += 1
        whole = self.noise_multiplier
        self.noise_multiplier = whole if _NoiseOnTheLastAlone.steps % 2 else 0.0
        super().add_noise()
        self.noise_multiplier = whole


_SUM, _BACKWARD = (client.training, "NoisyClippedSum"), (client.training, "ClippedBackward")
_LOSSES = (client.training, "example_losses")
_RATE = (client.trainer, "sample_rate")
_STREAM = (LocalTrainer, "_randomness")
_FACTORS, _RANDOM = (client.clipping, "clip_factors"), (client.trainer, "SystemRandomness")

PLANTED: tuple[Planted, ...] = (
    Planted(1, "noise for the wrong batch", _replaced(*_SUM, _ScaledForTheMean), ("noise", "component")),
    Planted(2, "clipping after averaging", _replaced(*_FACTORS, _factor_of_the_mean), ("sensitivity",)),
    Planted(3, "clipping layer by layer", _replaced(*_BACKWARD, _LayerByLayer), ("sensitivity", "component")),
    Planted(4, "norm without embeddings", _without_embeddings, ("sensitivity", "component")),
    Planted(5, "shuffled epochs", _replaced(*_RANDOM, _Shuffled), ("sampler",)),
    Planted(6, "divided by the realised batch", _counted(_RealisedBatch), ("sensitivity",)),
    Planted(7, "noise on every physical batch", _counted(_NoiseOnEveryPart), ("noise",)),
    Planted(7, "no noise while accumulating", _replaced(*_SUM, _NoiseOnTheLastAlone), ("noise", "component")),
    Planted(8, "the same noise in every round", _replaced(*_STREAM, _one_seed), ("independence",)),
    Planted(9, "predictable noise", _replaced(*_STREAM, _study_seed), ("independence",)),
    Planted(10, "floating-point noise", _replaced(*_RANDOM, _FloatingPoint), ("lattice",)),
    Planted(11, "a part without noise", _replaced(*_SUM, _PartWithoutNoise), ("noise",)),
    Planted(
        12,
        "another rate than accounted",
        _replaced(*_RATE, _rate_after_filtering),
        ("sampler",),
    ),
    Planted(14, "rows of a person as units", _replaced(*_BACKWARD, _RowsAsUnits), ("persons",)),
    Planted(16, "no empty batches", _replaced(*_RANDOM, _NeverEmpty), ("empty batches",)),
    Planted(16, "empty batches skipped", _counted(_EmptySkipped), ("empty batches", "steps")),
    Planted(17, "what is no number slips through", _replaced(*_FACTORS, _factor_without_check), ("sensitivity",)),
    Planted(18, "noise removed on the way", _replaced(*_SUM, _NoiseWhereItIsNeeded), ("noise",)),
    Planted(
        20,
        "loss over the batch",
        _replaced(*_LOSSES, _loss_over_the_batch),
        ("sensitivity",),
    ),
)
"""Those of the loop. Numbers 13, 15 and 19 are no matter of the loop: ``test_static_bugs.py`` plants them."""
