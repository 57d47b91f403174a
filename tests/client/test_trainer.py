"""Local training works from declared facts; its data decides the gradients and nothing else that can be seen."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client import trainer as trainer_module
from client import training
from client.trainer import LocalTrainer, SiteFacts
from common.model import build_classifier
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.privacy.randomness import SystemRandomness
from common.study import Study
from common.study_file import parse_study
from common.study_mechanism import calibrated_noise_multiplier
from common.text import load_tokenizer, tokenize
from common.weights import Weights
from common.wire import Phase, RoundPlan, Update, pack_update
from tests.tiny import tiny_rows, tiny_study_text

RUN = "0123456789abcdef" * 2
DECLARED = 60
ROWS = tiny_rows(50, seed=12)
MODES = ("full", "lora", "bias", "head")


def study_of(base: Path, *overrides: str) -> Study:
    return parse_study(tiny_study_text(base, base), "tiny", overrides)


def noise_of(study: Study, declared: int = DECLARED) -> float:
    return calibrated_noise_multiplier(study, "north", declared)


def trainer_of(
    base: Path, study: Study, rows: list[tuple[str, str, str]] = ROWS, declared: int = DECLARED
) -> LocalTrainer:
    labels = [int(label == "positive") for _, label, _ in rows]
    texts = tokenize(load_tokenizer(base), [text for text, _, _ in rows], labels, 16)
    facts = SiteFacts("north", 1, declared)
    return LocalTrainer(facts, study, texts, build_classifier(study), noise_of(study, declared))


def weights_of(study: Study, head_only: bool = False) -> Weights:
    return build_classifier(study).weights(head_only)


def train(
    trainer: LocalTrainer, study: Study, number: int = 1, steps: int = 2, phase: Phase = Phase.TRAIN
) -> Update:
    return trainer.train(RoundPlan(study, number, phase, steps, RUN), weights_of(study))


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


class Recorder:
    """What a trainer's rounds used: batches drawn, with their rate, and the optimizer's settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[NDArray[np.int64]] = []
        self.rates: list[float] = []
        self.settings: list[tuple[float, float, float]] = []
        recorder = self

        class Recording(SystemRandomness):
            def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
                recorder.rates.append(sample_rate)
                recorder.batches.append(super().poisson_batch(population, sample_rate))
                return recorder.batches[-1]

        class Optimizer(training.NoisyClippedSum):
            def add_noise(self) -> None:
                recorder.settings.append((self.noise_multiplier, self.max_grad_norm, self.expected_batch_size))
                super().add_noise()

        monkeypatch.setattr(trainer_module, "SystemRandomness", Recording)
        monkeypatch.setattr(training, "NoisyClippedSum", Optimizer)


class TestDeclaredSize:
    """The true number of rows decides nothing that is planned, recorded or sent (P3)."""

    @pytest.mark.parametrize("rows", [ROWS[:-1], [*ROWS, ROWS[0]], ROWS[:3], []])
    def test_p03_rows_more_or_fewer_change_nothing_that_is_planned(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str, str]]
    ) -> None:
        recorder = Recorder(monkeypatch)
        study = study_of(tiny_base)
        trainers = trainer_of(tiny_base, study), trainer_of(tiny_base, study, rows)
        mechanisms = [train(trainer, study).mechanism for trainer in trainers]
        assert mechanisms[0] == mechanisms[1]
        assert set(recorder.rates) == {8 / DECLARED}
        assert len(set(recorder.settings)) == 1

    def test_p03_rate_and_divisor_follow_the_declared_size(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorder = Recorder(monkeypatch)
        study = study_of(tiny_base, "privacy.max_grad_norm=0.7")
        for declared in (40, 80):
            update = train(trainer_of(tiny_base, study, declared=declared), study)
            noise = noise_of(study, declared)
            assert update.mechanism == SampledGaussian(8 / declared, noise, 2)
            assert recorder.settings[-1] == (noise, 0.7, 8.0)
        assert recorder.rates == [8 / 40, 8 / 40, 8 / 80, 8 / 80]


class TestOneStepPlan:
    """Sampler, clipping, noise and record cannot drift apart (P12)."""

    @pytest.mark.parametrize("phase", list(Phase))
    def test_p12_sampler_c_noise_and_record_come_from_one_step_plan(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase
    ) -> None:
        """Whatever the plan is changed to, all of them follow."""
        recorder = Recorder(monkeypatch)
        study = study_of(tiny_base)
        trainer = trainer_of(tiny_base, study)
        other = training.StepPlan(0.03125, 5.5, 0.125, 3.0, 3)
        monkeypatch.setattr(trainer, "_step_plan", lambda steps: other)
        update = train(trainer, study, steps=3, phase=phase)
        assert recorder.rates == [0.03125] * 3
        assert recorder.settings == [(5.5, 0.125, 3.0)] * 3
        assert update.mechanism == SampledGaussian(0.03125, 5.5, 3)


class TestRandomness:
    """Private draws never repeat; others always do (P13)."""

    def test_p13_two_rounds_of_one_seed_draw_other_batches_and_other_noise(
        self, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same round of the same site, twice: also after every generator was seeded alike."""
        recorder = Recorder(monkeypatch)
        study = study_of(tiny_base, "privacy.batch_size=30")
        updates = []
        for _ in range(2):
            torch.manual_seed(0)
            np.random.seed(0)
            updates.append(train(trainer_of(tiny_base, study), study))
        first, second = recorder.batches[:2], recorder.batches[2:]
        assert not any(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
        assert not np.array_equal(first[0], first[1])
        for name, value in updates[0].weights.items():
            assert not np.array_equal(value, updates[1].weights[name]), name

    def test_p13_noise_differs_though_batches_are_the_same(self, tiny_base: Path) -> None:
        """Without a single row the update is noise alone."""
        study = study_of(tiny_base)
        one, two = (train(trainer_of(tiny_base, study, []), study) for _ in range(2))
        assert not any(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)

    def test_with_privacy_off_the_same_round_gives_the_same_update(self, tiny_base: Path) -> None:
        study = study_of(tiny_base, "privacy.enabled=false")
        trainer = trainer_of(tiny_base, study)
        one, again, later = (train(trainer, study, number) for number in (1, 1, 2))
        fresh = train(trainer_of(tiny_base, study), study)
        assert same(one.weights, again.weights)
        assert same(one.weights, fresh.weights)
        assert not same(one.weights, later.weights)
        assert one.mechanism == NotPrivate("privacy.enabled = false")


class TestTrain:
    """The update."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("private", ["true", "false"])
    def test_every_mode_and_phase_answers_with_exactly_what_trains(
        self, tiny_base: Path, mode: str, phase: Phase, private: str
    ) -> None:
        study = study_of(tiny_base, f"model.trainable={mode}", f"privacy.enabled={private}")
        trainer = trainer_of(tiny_base, study)
        head_only = phase is Phase.WARM_START
        start = weights_of(study)
        update = train(trainer, study, steps=3, phase=phase)
        assert update.weights.keys() == weights_of(study, head_only).keys()
        assert (update.site, update.round) == ("north", 1)
        assert any((update.weights[name] != start[name]).any() for name in update.weights)
        assert all(np.isfinite(value).all() for value in update.weights.values())
        assert set(trainer.classifier.trainable()) == {*start}, "what trains is as before"

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("private", ["true", "false"])
    def test_p12_empty_batches_work_in_every_mode(
        self, tiny_base: Path, mode: str, phase: Phase, private: str
    ) -> None:
        """A site without rows draws empty batches only: noise in a private run, nothing in another."""
        study = study_of(tiny_base, f"model.trainable={mode}", f"privacy.enabled={private}")
        update = train(trainer_of(tiny_base, study, []), study, phase=phase)
        start = weights_of(study)
        moved = [bool((update.weights[name] != start[name]).any()) for name in update.weights]
        assert all(moved) if private == "true" else not any(moved)

    def test_training_starts_from_the_weights_that_came(self, tiny_base: Path) -> None:
        study = study_of(tiny_base, "privacy.enabled=false", "training.learning_rate=1e-9")
        start = {name: value + np.float32(0.25) for name, value in weights_of(study).items()}
        update = trainer_of(tiny_base, study).train(RoundPlan(study, 1, Phase.TRAIN, 1, RUN), start)
        for name, value in update.weights.items():
            assert np.allclose(value, start[name], atol=1e-6)

    def test_warm_start_takes_its_own_learning_rate(self, tiny_base: Path) -> None:
        rates = []
        for overrides in (["model.warm_start_learning_rate=2.0"], ["model.warm_start_learning_rate=4.0"]):
            study = study_of(tiny_base, "privacy.enabled=false", *overrides)
            update = train(trainer_of(tiny_base, study), study, steps=1, phase=Phase.WARM_START)
            name = "network.classifier.bias"
            rates.append(update.weights[name] - weights_of(study)[name])
        assert np.allclose(2 * rates[0], rates[1], rtol=1e-4)

    def test_head_on_stored_features_equals_head_through_the_whole_network(self, tiny_base: Path) -> None:
        """Warm start and a whole forward pass give the same step of the head."""
        study = study_of(tiny_base, "privacy.enabled=false", "training.learning_rate=1.0")
        head = train(trainer_of(tiny_base, study), study, steps=2, phase=Phase.WARM_START)
        whole = train(trainer_of(tiny_base, study), study, steps=1)
        one = train(trainer_of(tiny_base, study), study, steps=1, phase=Phase.WARM_START)
        for name, value in one.weights.items():
            assert np.allclose(value, whole.weights[name], atol=1e-4)
            assert not np.array_equal(value, head.weights[name])


class TestWhatLeaves:
    """Nothing but what the messages define (P15)."""

    def test_p15_an_update_holds_its_fields_and_nothing_else(self, tiny_base: Path) -> None:
        study = study_of(tiny_base)
        update = train(trainer_of(tiny_base, study), study)
        assert (update.site, update.round, update.head) == ("north", 1, None)
        assert set(pack_update(update)["weights"]) == {*weights_of(study)}

    def test_p15_updates_of_neighbouring_data_differ_in_the_weights_alone(self, tiny_base: Path) -> None:
        study = study_of(tiny_base)
        one, two = (pack_update(train(trainer_of(tiny_base, study, rows), study)) for rows in (ROWS, ROWS[1:]))
        assert dict(one["update"]) == dict(two["update"])
        assert [(name, array.shape, array.dtype) for name, array in one["weights"].items()] == [
            (name, array.shape, array.dtype) for name, array in two["weights"].items()
        ]

    def test_p15_neither_logs_nor_reprs_tell_of_the_data(
        self, tiny_base: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """At the most talkative level: no number at all, so no size, length or loss."""
        study = study_of(tiny_base)
        trainer = trainer_of(tiny_base, study)
        caplog.set_level(logging.DEBUG)
        for phase in Phase:
            trainer.train(RoundPlan(study, 1, phase, 1, RUN), weights_of(study, phase is Phase.WARM_START))
        said = [record.getMessage() for record in caplog.records if record.name.startswith(("client", "opacus"))]
        assert not [line for line in said if any(character.isdigit() for character in line)], said
        assert capfd.readouterr().out == ""
        assert not [text for text, _, _ in ROWS if text in repr(trainer)]
