"""Unit "group": all rows of a person are drawn together, averaged, and clipped as one (P2, P3, P10, P12).

A trainer here takes one step of SGD at rate 1 with every person drawn and no noise, so that the weights move by
exactly the clipped sum over the expected batch size. It is held against a loop over persons in plain autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client import trainer as trainer_module
from client import training
from client.clipping import ROUNDING_MARGIN
from client.trainer import LocalTrainer, SiteFacts
from client.training import example_losses
from client.units import Units
from common.errors import HanseError
from common.model import Classifier, build_classifier
from common.privacy.mechanism import SampledGaussian
from common.privacy.randomness import SeededRandomness, SystemRandomness
from common.study import Study
from common.study_file import parse_study
from common.text import TokenizedTexts, batches, load_tokenizer, tokenize, unit_batches
from common.weights import Weights
from common.wire import Phase, RoundPlan
from tests.tiny import tiny_rows, tiny_study_text

RUN = "0123456789abcdef" * 2
DECLARED = 8
"""As many as a batch is expected to hold, so that q = 1."""
PHYSICAL = 8
ROWS = tiny_rows(64, seed=21)
PARTS = ("full", "lora", "bias", "head", "warm start")
PERSON = (
    "privacy.unit=group",
    "privacy.group_column=person",
    "training.learning_rate=1.0",
    "model.warm_start_learning_rate=1.0",
    f"training.physical_batch_size={PHYSICAL}",
)
Gradient = dict[str, NDArray[np.float64]]

every_part = pytest.mark.parametrize("part", PARTS)
sizes_of_persons = st.lists(st.integers(1, 8), min_size=1, max_size=5)


def study_of(base: Path, part: str, *more: str, persons: bool = True) -> Study:
    """A study that trains one part of the network; ``warm start`` is the head in the phase of that name."""
    mode = "lora" if part == "warm start" else part
    unit = PERSON if persons else PERSON[2:]
    return parse_study(tiny_study_text(base, base), "tiny", [*unit, f"model.trainable={mode}", *more])


@lru_cache(maxsize=8)
def classifier_of(base: Path, mode: str) -> tuple[Classifier, Weights]:
    """A classifier and weights to start from, none of which is zero (LoRA's B is, and hides gradients)."""
    classifier = build_classifier(study_of(base, mode))
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return classifier, classifier.weights()


def texts_of(base: Path, sizes: Sequence[int], persons: bool = True) -> TokenizedTexts:
    """Texts of persons of these sizes, whose rows lie apart in the data, as rows of a file do."""
    groups = [f"p{person}" for row in range(8) for person, size in enumerate(sizes) if row < size]
    chosen = ROWS[: len(groups)]
    labels = [int(label == "positive") for _, label, _ in chosen]
    tokenizer = load_tokenizer(base)
    return tokenize(tokenizer, [text for text, _, _ in chosen], labels, 16, groups if persons else None)


class OneStep:
    """One step over all units, and what it ought to be."""

    def __init__(self, base: Path, part: str, *more: str, persons: bool = True) -> None:
        self.study = study_of(base, part, *more, persons=persons)
        self.phase = Phase.WARM_START if part == "warm start" else Phase.TRAIN
        self.head_only = part in ("head", "warm start")
        self.classifier, weights = classifier_of(base, self.study.model.trainable)
        names = self.classifier.trainable(part == "warm start")
        self.start = {name: weights[name] for name in names}

    def trainer(self, texts: TokenizedTexts) -> LocalTrainer:
        return LocalTrainer(SiteFacts("north", 0, DECLARED), self.study, texts, self.classifier, 0.0)

    def summed(self, texts: TokenizedTexts) -> Gradient:
        """The sum that one step of the real trainer moves the weights by."""
        plan = RoundPlan(self.study, 1, self.phase, 1, RUN)
        after = self.trainer(texts).train(plan, self.start).weights
        assert after.keys() == self.start.keys()
        before = {name: value.astype(np.float64) for name, value in self.start.items()}
        return {name: DECLARED * (before[name] - value) for name, value in after.items()}

    def wanted(self, texts: TokenizedTexts, max_grad_norm: float = float("inf")) -> Gradient:
        """The sum over persons of the clipped mean over rows: a loop, one text at a time."""
        if self.phase is Phase.WARM_START:
            self.classifier.load(self.classifier.initial)
        self.classifier.load(self.start)
        parameters = self.classifier.trainable(self.head_only)
        total = {name: np.zeros(parameter.shape) for name, parameter in parameters.items()}
        assert texts.persons is not None
        for person in range(texts.units):
            gradients = [
                self._gradient(texts, int(row), parameters) for row in np.flatnonzero(texts.persons == person)
            ]
            mean = {name: np.mean([gradient[name] for gradient in gradients], axis=0) for name in parameters}
            factor = min(1.0, max_grad_norm * (1 - ROUNDING_MARGIN) / norm(mean))
            for name in total:
                total[name] += factor * mean[name]
        return total

    def _gradient(self, texts: TokenizedTexts, row: int, parameters: dict[str, torch.nn.Parameter]) -> Gradient:
        (batch,) = batches(texts, np.array([row]), 1)
        loss = example_losses(self.classifier.train()(**batch.inputs).logits, batch.labels).sum()
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        return {name: gradient.double().numpy() for name, gradient in zip(parameters, found, strict=True)}


def norm(gradient: Gradient) -> float:
    return float(np.sqrt(sum(float(np.square(value).sum()) for value in gradient.values())))


def less(one: Gradient, two: Gradient) -> Gradient:
    assert one.keys() == two.keys()
    return {name: one[name] - two[name] for name in one}


def clipped_to(max_grad_norm: float) -> str:
    return f"privacy.max_grad_norm={max_grad_norm}"


class TestGradient:
    """The sum that a step releases, in every mode and on frozen features."""

    @every_part
    @settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(sizes=sizes_of_persons, max_grad_norm=st.sampled_from([0.05, 1.0, 1000.0]))
    def test_p12_the_step_is_the_sum_of_clipped_means_over_persons(
        self, tiny_base: Path, part: str, sizes: list[int], max_grad_norm: float
    ) -> None:
        """0.05 clips everybody, 1000 nobody. Float32 weights tell the sum to about 1e-6."""
        step = OneStep(tiny_base, part, clipped_to(max_grad_norm))
        texts = texts_of(tiny_base, sizes)
        wanted = step.wanted(texts, max_grad_norm)
        assert norm(wanted) > 1e-3, "a vanishing gradient proves nothing"
        assert norm(less(step.summed(texts), wanted)) < 1e-3 * norm(wanted) + 1e-5

    @every_part
    def test_without_privacy_it_is_the_sum_of_means_over_persons(self, tiny_base: Path, part: str) -> None:
        step = OneStep(tiny_base, part, "privacy.enabled=false")
        texts = texts_of(tiny_base, [1, 8, 3])
        wanted = step.wanted(texts)
        assert norm(wanted) > 1e-3
        assert norm(less(step.summed(texts), wanted)) < 1e-3 * norm(wanted)

    @every_part
    def test_persons_of_one_row_train_as_rows_do(self, tiny_base: Path, part: str) -> None:
        persons = OneStep(tiny_base, part, clipped_to(0.3))
        rows = OneStep(tiny_base, part, clipped_to(0.3), persons=False)
        one = persons.summed(texts_of(tiny_base, [1] * 8))
        two = rows.summed(texts_of(tiny_base, [1] * 8, persons=False))
        assert norm(less(one, two)) < 1e-4 * norm(two)

    @every_part
    def test_p12_a_site_without_rows_takes_its_step(self, tiny_base: Path, part: str) -> None:
        step = OneStep(tiny_base, part)
        assert norm(step.summed(texts_of(tiny_base, []))) == 0.0


class TestSensitivity:
    """C bounds a person, whatever the number of rows."""

    @every_part
    @pytest.mark.parametrize("rows", [1, 2, 8])
    def test_p12_a_person_alone_contributes_at_most_c(self, tiny_base: Path, part: str, rows: int) -> None:
        """And not far below it: every gradient here is larger. Beyond C only the weights' own rounding shows."""
        step = OneStep(tiny_base, part, clipped_to(0.05))
        found = norm(step.summed(texts_of(tiny_base, [rows])))
        assert 0.049 < found <= 0.05 + 1e-5

    @every_part
    def test_p12_adding_a_whole_person_moves_the_sum_by_at_most_c(self, tiny_base: Path, part: str) -> None:
        """Under unit "example" the same eight rows move it by more: the control."""
        moved = {}
        for persons in (True, False):
            step = OneStep(tiny_base, part, clipped_to(0.05), persons=persons)
            whole, rest = texts_of(tiny_base, [3, 1, 8], persons), without_last(tiny_base, [3, 1, 8], persons)
            moved[persons] = norm(less(step.summed(whole), step.summed(rest)))
        assert 0.04 < moved[True] <= 0.05 + 2e-5
        assert moved[False] > 2 * 0.05


def without_last(base: Path, sizes: Sequence[int], persons: bool) -> TokenizedTexts:
    """The texts of :func:`texts_of` less those of the last person."""
    owners = [person for row in range(8) for person, size in enumerate(sizes) if row < size]
    kept = [row for row, person in enumerate(owners) if person != len(sizes) - 1]
    labels = [int(ROWS[row][1] == "positive") for row in kept]
    groups = [f"p{owners[row]}" for row in kept] if persons else None
    return tokenize(load_tokenizer(base), [ROWS[row][0] for row in kept], labels, 16, groups)


class TestOneUnitAtATime:
    """What is computed of a person before sampling depends on that person alone."""

    @pytest.mark.parametrize("head_only", [False, True])
    def test_p10_removing_a_person_changes_no_other_persons_tensors_or_weights(
        self, tiny_base: Path, head_only: bool
    ) -> None:
        """Tokens, labels and shares, or features, labels and shares, each person's as a set of rows."""
        step = OneStep(tiny_base, "head" if head_only else "lora")
        sizes = [3, 1, 8, 2]
        found = []
        for texts in (texts_of(tiny_base, sizes), without_last(tiny_base, sizes, True)):
            trainer = step.trainer(texts)
            parameters = list(step.classifier.trainable(head_only).values())
            everybody = np.arange(texts.units)
            trainee = trainer.head_trainee(parameters, [everybody]) if head_only else trainer.trainee(parameters)
            found.append([self._seen(trainee, unit) for unit in range(3)])
        assert found[0] == found[1]

    @staticmethod
    def _seen(trainee: training.Trainee, unit: int) -> list[tuple[list[float], int, float]]:
        (batch,) = trainee.batches(np.array([unit]))
        assert batch.units is not None
        assert batch.weights is not None
        assert batch.units.tolist() == [0] * len(batch.labels)
        values = batch.inputs.get("features", batch.inputs.get("input_ids"))
        assert values is not None
        rows = zip(values, batch.labels.tolist(), batch.weights.tolist(), strict=True)
        # A feature may differ in its last bits where another text's length sets the padding.
        return sorted(([round(float(v), 4) for v in row if float(v)], label, share) for row, label, share in rows)


class Recorder:
    """What rounds drew and used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.populations: list[tuple[int, float]] = []
        self.settings: list[tuple[float, float, float]] = []
        self.batches: list[tuple[list[int], list[float]]] = []
        self.drawn: list[NDArray[np.int64]] = []
        recorder = self

        class Recording(SystemRandomness):
            def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
                recorder.populations.append((population, sample_rate))
                recorder.drawn.append(super().poisson_batch(population, sample_rate))
                return recorder.drawn[-1]

        class Optimizer(training.NoisyClippedSum):
            def add_noise(self) -> None:
                recorder.settings.append((self.noise_multiplier, self.max_grad_norm, self.expected_batch_size))
                super().add_noise()

        monkeypatch.setattr(trainer_module, "SystemRandomness", Recording)

        class Backward(training.ClippedBackward):
            def backward(self, losses: torch.Tensor, units: Units | None = None) -> None:
                assert units is not None
                recorder.batches.append((units.index.tolist(), units.weights.tolist()))
                super().backward(losses, units)

        monkeypatch.setattr(training, "NoisyClippedSum", Optimizer)
        monkeypatch.setattr(training, "ClippedBackward", Backward)


class TestSampling:
    """Persons are what is drawn and counted."""

    @every_part
    @pytest.mark.parametrize("sizes", [[3, 1, 8], [3, 1, 8, 8, 8, 2], [1], [8, 8], []])
    def test_p03_the_true_number_of_persons_and_rows_changes_nothing_that_is_planned(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, part: str, sizes: list[int]
    ) -> None:
        """Rate, C, divisor and record come from the declared size; the population is the number of persons."""
        recorder = Recorder(monkeypatch)
        step = OneStep(tiny_base, part, "privacy.batch_size=6")
        trainer = LocalTrainer(
            SiteFacts("north", 0, 24), step.study, texts_of(tiny_base, sizes), step.classifier, 1.5
        )
        update = trainer.train(RoundPlan(step.study, 1, step.phase, 3, RUN), step.start)
        assert recorder.populations == [(len(sizes), 0.25)] * 3
        assert recorder.settings == [(1.5, 1.0, 6.0)] * 3
        assert update.mechanism == SampledGaussian(0.25, 1.5, 3)

    @every_part
    def test_p02_a_persons_rows_are_drawn_and_clipped_together(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        """Each group that is clipped is one drawn person with all rows, each with an equal share."""
        recorder = Recorder(monkeypatch)
        sizes = [3, 1, 8, 8, 2, 5, 4, 7]
        step = OneStep(tiny_base, part, "privacy.batch_size=8")
        trainer = LocalTrainer(
            SiteFacts("north", 0, 16), step.study, texts_of(tiny_base, sizes), step.classifier, 1.0
        )
        for _ in range(3):
            recorder.drawn.clear()
            recorder.batches.clear()
            trainer.train(RoundPlan(step.study, 1, step.phase, 1, RUN), step.start)
            (drawn,) = recorder.drawn
            clipped = []
            for units, weights in recorder.batches:
                counts = np.bincount(units)
                assert weights == pytest.approx([1 / counts[unit] for unit in units])
                assert step.head_only or len(units) <= PHYSICAL
                clipped += counts.tolist()
            assert sorted(clipped) == sorted(sizes[person] for person in drawn)

    def test_p12_how_persons_are_gathered_in_batches_does_not_change_the_step(self, tiny_base: Path) -> None:
        texts = texts_of(tiny_base, [3, 1, 8, 5])
        sums = [
            OneStep(tiny_base, "lora", clipped_to(0.3), f"training.physical_batch_size={size}").summed(texts)
            for size in (8, 17, 64)
        ]
        assert len(list(unit_batches(texts, np.arange(4), 8))) > 1
        assert norm(less(sums[0], sums[1])) < 1e-4
        assert norm(less(sums[0], sums[2])) < 1e-4

    def test_a_run_without_privacy_draws_persons_by_its_seed(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        populations = []

        class Recording(SeededRandomness):
            def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
                populations.append(population)
                return super().poisson_batch(population, sample_rate)

        monkeypatch.setattr(trainer_module, "SeededRandomness", Recording)
        step = OneStep(tiny_base, "lora", "privacy.enabled=false")
        step.summed(texts_of(tiny_base, [3, 1, 8]))
        assert populations == [3]


@pytest.mark.parametrize("persons", [True, False])
def test_p02_texts_prepared_for_another_unit_are_never_trained_on(tiny_base: Path, persons: bool) -> None:
    """Rows under unit "group" would be units of their own, and a person protected as one row is."""
    step = OneStep(tiny_base, "lora", persons=persons)
    unit = "group" if persons else "example"
    with pytest.raises(HanseError, match=f'privacy.unit = "{unit}": the texts were prepared for another unit'):
        step.summed(texts_of(tiny_base, [3, 1], not persons))
