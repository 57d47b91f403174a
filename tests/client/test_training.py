"""The local loop on real networks: per-example gradients, losses, optimizers, and what a failure leaves."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from client import training
from client.layer_gradients import LayerGradient
from client.training import (
    LocalOptimizer,
    StepPlan,
    Trainee,
    TrainingBatch,
    example_losses,
    train_privately,
    train_without_privacy,
)
from common.model import Classifier, build_classifier
from common.privacy.mechanism import SampledGaussian
from common.privacy.randomness import SeededRandomness, SystemRandomness
from common.study_file import parse_study
from common.text import Batch, TokenizedTexts, batches, load_tokenizer, tokenize
from tests.tiny import tiny_rows, tiny_study_text, write_tiny_base

ARCHITECTURES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert")
POOLED = [*((architecture, "cls") for architecture in ARCHITECTURES), ("bert", "mean"), ("modernbert", "mean")]
MODES = ("full", "lora", "bias", "head")
RELATIVE_ERROR = 1e-4
ROWS = tiny_rows(8, seed=6)

every_network = pytest.mark.parametrize(("architecture", "pooling"), POOLED)
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each architecture."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: write_tiny_base(folder / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def texts(bases: dict[str, Path]) -> TokenizedTexts:
    """Eight texts of unequal lengths; the tokenizer is the same for every tiny base."""
    labels = [int(label == "positive") for _, label, _ in ROWS]
    tokens = tokenize(load_tokenizer(bases["bert"]), [text for text, _, _ in ROWS], labels, 16)
    assert len(set(tokens.lengths.tolist())) >= 4
    return tokens


def built(base: Path, mode: str, pooling: str = "cls", *more: str) -> Classifier:
    """A classifier whose trainable parameters are moved off their initial values (LoRA's B is zero there)."""
    overrides = (f"model.trainable={mode}", f"model.pooling={pooling}", *more)
    classifier = build_classifier(parse_study(tiny_study_text(base, base), "tiny", overrides))
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return classifier


def relative_deberta(plain: Path, folder: Path) -> Path:
    """A tiny DeBERTa configured as the published ones are: one table of positions, shared projections."""
    from transformers import AutoConfig, AutoModel

    shutil.copytree(plain, folder)
    config = AutoConfig.from_pretrained(plain)
    config.update(
        {
            "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8,
        }
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def batch_of(texts: TokenizedTexts, indexes: list[int]) -> Batch:
    return next(batches(texts, np.array(indexes), len(indexes)))


def trainee_of(classifier: Classifier, texts: TokenizedTexts, size: int = 32) -> Trainee:
    def physical(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
        for batch in batches(texts, indexes, size):
            yield TrainingBatch(batch.inputs, batch.labels)

    return Trainee(classifier, list(classifier.trainable().values()), physical)


def single_gradients(classifier: Classifier, texts: TokenizedTexts, index: int) -> dict[str, torch.Tensor]:
    """Gradient of one example by an ordinary backward pass, with no hook anywhere."""
    classifier.train().zero_grad(set_to_none=True)
    batch = batch_of(texts, [index])
    example_losses(classifier(**batch.inputs).logits, batch.labels).sum().backward()
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in classifier.trainable().items()
    }
    classifier.zero_grad(set_to_none=True)
    return found


def per_example_gradients(
    trainee: Trainee, indexes: list[int], monkeypatch: pytest.MonkeyPatch
) -> list[list[torch.Tensor]]:
    """Per-example gradients as :func:`train_privately` clips and adds them, one list per batch."""
    seen: list[list[torch.Tensor]] = []

    class Recording(training.ClippedBackward):
        def _add(self, gradients: list[LayerGradient], factors: torch.Tensor) -> None:
            by_parameter = {id(each.parameter): each for each in gradients}
            one_each = torch.eye(len(factors))
            seen.append(
                [torch.stack([by_parameter[id(p)].weighted_sum(one) for one in one_each]) for p in self._trained]
            )
            super()._add(gradients, factors)

    monkeypatch.setattr(training, "ClippedBackward", Recording)
    train_privately(trainee, plan_of(), LocalOptimizer("sgd", 0.1, 0, 0), [np.array(indexes)], SeededRandomness(1))
    return seen


def plan_of(noise: float = 0.0, clip: float = 1.0, steps: int = 1, expected: float = 4.0) -> StepPlan:
    return StepPlan(0.1, noise, clip, expected, steps)


def distance(one: dict[str, NDArray[np.float32]], two: dict[str, NDArray[np.float32]]) -> float:
    assert one.keys() == two.keys()
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


class TestPerExampleGradients:
    """What is clipped is the gradient of each single example, for every model that Hanse trains.

    The error is relative to the largest entry of the example's whole gradient.
    """

    @every_network
    @every_mode
    def test_p12_opacus_820_841_gradients_in_a_batch_equal_those_of_single_examples(
        self,
        bases: dict[str, Path],
        texts: TokenizedTexts,
        monkeypatch: pytest.MonkeyPatch,
        architecture: str,
        pooling: str,
        mode: str,
    ) -> None:
        """Known silent failures: PEFT's LoRA under Opacus' hooks (#820), broadcast position ids (#841)."""
        classifier = built(bases[architecture], mode, pooling, "model.lora_targets=all")
        names = list(classifier.trainable())
        wanted = [single_gradients(classifier, texts, index) for index in range(8)]
        (found,) = per_example_gradients(trainee_of(classifier, texts), list(range(8)), monkeypatch)
        order = batch_of(texts, list(range(8))).indexes
        assert [len(gradient) for gradient in found] == [8] * len(names)
        for row, index in enumerate(order):
            scale = max(float(gradient.abs().max()) for gradient in wanted[index].values())
            assert scale > 1e-3, "a vanishing gradient proves nothing"
            for name, gradient in zip(names, found, strict=True):
                error = float((gradient[row] - wanted[index][name]).abs().max()) / scale
                assert error < RELATIVE_ERROR, f"{name}: {error}"

    @every_network
    @every_mode
    def test_p12_gradients_of_an_example_alone_equal_those_of_a_plain_pass(
        self,
        bases: dict[str, Path],
        texts: TokenizedTexts,
        monkeypatch: pytest.MonkeyPatch,
        architecture: str,
        pooling: str,
        mode: str,
    ) -> None:
        classifier = built(bases[architecture], mode, pooling)
        wanted = single_gradients(classifier, texts, 3)
        (found,) = per_example_gradients(trainee_of(classifier, texts), [3], monkeypatch)
        scale = max(float(gradient.abs().max()) for gradient in wanted.values())
        for (name, one), gradient in zip(wanted.items(), found, strict=True):
            assert gradient.shape == (1, *one.shape)
            assert float((gradient[0] - one).abs().max()) / scale < RELATIVE_ERROR, name

    @pytest.mark.parametrize("mode", ["full", "lora"])
    def test_p12_under_bfloat16_every_parameter_gets_the_gradient_of_each_example(
        self, bases: dict[str, Path], texts: TokenizedTexts, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        """Sums are float32 whatever autocast made of the activations; agreement within bfloat16's 2^-8."""
        classifier = built(bases["bert"], mode, "mean")
        wanted = single_gradients(classifier, texts, 2)

        def autocast() -> AbstractContextManager[None]:
            return torch.autocast("cpu", dtype=torch.bfloat16)

        plain = trainee_of(classifier, texts)
        trainee = Trainee(plain.network, plain.parameters, plain.batches, autocast)
        (found,) = per_example_gradients(trainee, [2, 5], monkeypatch)
        row = batch_of(texts, [2, 5]).indexes.tolist().index(2)
        scale = max(float(gradient.abs().max()) for gradient in wanted.values())
        for one, gradient in zip(wanted.values(), found, strict=True):
            assert len(gradient) == 2
            assert float((gradient[row].float() - one).abs().max()) / scale < 0.1
        assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}

    def test_p12_relative_attention_of_deberta_separates_under_lora_on_values(
        self,
        bases: dict[str, Path],
        texts: TokenizedTexts,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """The only mode but the head in which a published DeBERTa may train; the others are refused."""
        base = relative_deberta(bases["deberta-v2"], tmp_path / "relative")
        classifier = built(base, "lora", "cls", "model.lora_targets=value")
        wanted = [single_gradients(classifier, texts, index) for index in range(8)]
        (found,) = per_example_gradients(trainee_of(classifier, texts), list(range(8)), monkeypatch)
        for row, index in enumerate(batch_of(texts, list(range(8))).indexes):
            scale = max(float(gradient.abs().max()) for gradient in wanted[index].values())
            for one, gradient in zip(wanted[index].values(), found, strict=True):
                assert float((gradient[row] - one).abs().max()) / scale < RELATIVE_ERROR

    def test_opacus_820_a_lora_update_equals_that_of_a_plain_torch_loop(
        self, bases: dict[str, Path], texts: TokenizedTexts
    ) -> None:
        """Without noise and with a C that clips nobody, three private steps are three plain ones."""
        draws = [np.array([0, 1, 2]), np.array([5]), np.array([7, 3])]
        one, two = (built(bases["bert"], "lora", "mean", "model.lora_targets=all") for _ in range(2))
        optimizer = LocalOptimizer("sgd", 0.5, 0.0, 0.0)
        train_privately(trainee_of(one, texts), plan_of(clip=1e6), optimizer, draws, SeededRandomness(1))
        train_without_privacy(trainee_of(two, texts), plan_of(), optimizer, draws)
        assert distance(one.weights(), two.weights()) < 1e-4
        untrained = built(bases["bert"], "lora", "mean", "model.lora_targets=all")
        assert distance(one.weights(), untrained.weights()) > 0.01


class TestFrozen:
    """Training moves what trains, and nothing else."""

    @every_network
    @every_mode
    @pytest.mark.parametrize("private", [True, False])
    def test_frozen_parameters_do_not_move_and_trainable_ones_do(
        self,
        bases: dict[str, Path],
        texts: TokenizedTexts,
        architecture: str,
        pooling: str,
        mode: str,
        private: bool,
    ) -> None:
        classifier = built(bases[architecture], mode, pooling)
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        trainable = set(classifier.trainable())
        train(trainee_of(classifier, texts), plan_of(noise=0.5), [np.arange(8)], private)
        after = classifier.state_dict()
        assert before.keys() == after.keys()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved <= trainable
        if private:
            assert moved == trainable, "noise reaches every trainable parameter"


def train(trainee: Trainee, plan: StepPlan, draws: list[NDArray[np.int64]], private: bool) -> None:
    optimizer = LocalOptimizer("sgd", 0.1, 0.0, 0.0)
    if private:
        train_privately(trainee, plan, optimizer, draws, SystemRandomness())
    else:
        train_without_privacy(trainee, plan, optimizer, draws)


class TestLoss:
    """The loss of an example is its own (P11)."""

    @every_network
    def test_p11_loss_of_an_example_does_not_depend_on_its_batch(
        self, bases: dict[str, Path], texts: TokenizedTexts, architecture: str, pooling: str
    ) -> None:
        classifier = built(bases[architecture], "full", pooling).train()
        losses: dict[str, dict[int, float]] = {}
        ways = {"alone": [[i] for i in range(8)], "all": [[*range(8)]], "two": [[0, 7], [3, 5]]}
        for name, groups in ways.items():
            losses[name] = {}
            for group in groups:
                batch = batch_of(texts, group)
                found = example_losses(classifier(**batch.inputs).logits, batch.labels)
                losses[name].update(zip(batch.indexes.tolist(), found.tolist(), strict=True))
        for index, loss in losses["alone"].items():
            assert losses["all"][index] == pytest.approx(loss, rel=1e-4, abs=1e-5)
            assert losses["two"].get(index, loss) == pytest.approx(loss, rel=1e-4, abs=1e-5)

    def test_p11_other_labels_and_batch_sizes_do_not_scale_it(self) -> None:
        """Not even by the balance of labels in the batch."""
        logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [30.0, -30.0]])
        wanted = example_losses(logits[:1], torch.tensor([1]))
        for others in ([0, 0], [1, 1], [0, 1]):
            assert torch.equal(example_losses(logits, torch.tensor([1, *others]))[:1], wanted)

    def test_p11_it_is_plain_cross_entropy_in_float32(self) -> None:
        logits = torch.tensor([[2.0, -1.0, 0.25]], dtype=torch.bfloat16)
        found = example_losses(logits, torch.tensor([2]))
        assert found.dtype == torch.float32
        exact = np.log(np.exp([2.0, -1.0, 0.25]).sum()) - 0.25
        assert float(found) == pytest.approx(exact, rel=1e-6)

    @every_network
    def test_p11_nothing_in_the_network_normalises_over_the_batch(
        self, bases: dict[str, Path], architecture: str, pooling: str
    ) -> None:
        coupling = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
        network = built(bases[architecture], "full", pooling)
        assert not [module for module in network.modules() if isinstance(module, coupling)]


class TestStepPlan:
    """One value says what is done and what is recorded."""

    def test_p12_the_mechanism_is_that_of_the_steps(self) -> None:
        plan = StepPlan(0.03, 1.7, 2.5, 9.0, 6)
        assert plan.mechanism == SampledGaussian(0.03, 1.7, 6)
        with pytest.raises(AttributeError):
            plan.noise_multiplier = 0.0  # type: ignore[misc]

    def test_p12_clipping_noise_and_divisor_are_the_plans(
        self, bases: dict[str, Path], texts: TokenizedTexts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        used: list[tuple[float, float, float]] = []

        class Recording(training.NoisyClippedSum):
            def noisy_step(self, *arguments: object) -> None:
                used.append((self.noise_multiplier, self.max_grad_norm, self.expected_batch_size))

        monkeypatch.setattr(training, "NoisyClippedSum", Recording)
        plan = StepPlan(0.03, 1.7, 2.5, 9.0, 2)
        train(trainee_of(built(bases["bert"], "head"), texts), plan, [np.arange(2)] * 2, private=True)
        assert used == [(1.7, 2.5, 9.0)] * 2


class TestLogicalBatches:
    """Empty ones, and how they are split."""

    @every_network
    @every_mode
    def test_p12_an_empty_poisson_batch_works_and_adds_noise_alone(
        self, bases: dict[str, Path], texts: TokenizedTexts, architecture: str, pooling: str, mode: str
    ) -> None:
        classifier = built(bases[architecture], mode, pooling)
        before = classifier.weights()
        empty = [np.empty(0, np.int64)]
        train(trainee_of(classifier, texts), plan_of(), empty, private=True)
        assert distance(before, classifier.weights()) == 0.0
        train(trainee_of(classifier, texts), plan_of(noise=1.0), empty, private=True)
        after = classifier.weights()
        assert all((before[name] != after[name]).any() for name in before)
        train(trainee_of(classifier, texts), plan_of(), empty, private=False)
        assert distance(after, classifier.weights()) == 0.0

    @pytest.mark.parametrize("mode", MODES)
    def test_p12_physical_batch_size_does_not_change_the_clipped_sum(
        self, bases: dict[str, Path], texts: TokenizedTexts, mode: str
    ) -> None:
        """C is small enough to clip every example; batches of 1, 3 and 8 give the same step."""
        found = []
        for size in (1, 3, 8):
            classifier = built(bases["bert"], mode, "mean")
            start = classifier.weights()
            trainee, plan = trainee_of(classifier, texts, size), plan_of(clip=0.05, expected=1.0)
            train_privately(trainee, plan, LocalOptimizer("sgd", 1.0, 0, 0), [np.arange(8)], SeededRandomness(1))
            found.append(classifier.weights())
            assert 1e-3 < distance(start, found[-1]) <= 8 * 0.05
        assert distance(found[0], found[1]) < 1e-5
        assert distance(found[0], found[2]) < 1e-5

    def test_p12_a_non_finite_example_moves_nothing_and_the_step_goes_on(
        self, bases: dict[str, Path], texts: TokenizedTexts
    ) -> None:
        """One token's embedding overflows, so the one text that holds it has a gradient that is not finite."""
        poisoned = next(i for i in range(8) if self._own_token(texts, i) is not None)
        clean = [i for i in range(8) if i != poisoned]
        found = []
        for drawn in (clean, [*clean, poisoned]):
            classifier = built(bases["bert"], "lora", "mean")
            token = self._own_token(texts, poisoned)
            with torch.no_grad():
                classifier.network.bert.embeddings.word_embeddings.weight[token] = float("inf")
            train(trainee_of(classifier, texts), plan_of(clip=0.5), [np.array(drawn)], private=True)
            found.append(classifier.weights())
        assert all(np.isfinite(value).all() for value in found[1].values())
        assert distance(found[0], found[1]) < 1e-6

    @staticmethod
    def _own_token(texts: TokenizedTexts, index: int) -> int | None:
        rows = [set(texts.tokens[texts.offsets[i] : texts.offsets[i + 1]].tolist()) for i in range(len(texts))]
        others = set().union(*(row for place, row in enumerate(rows) if place != index))
        return min(rows[index] - others, default=None)


class TestOptimizers:
    """SGD with momentum, AdamW, FedProx; private without noise and clipping, and plain, against torch itself."""

    @pytest.mark.parametrize("private", [True, False])
    @pytest.mark.parametrize(
        "optimizer",
        [
            LocalOptimizer("sgd", 0.3, 0.0, 0.0),
            LocalOptimizer("sgd", 0.1, 0.9, 0.01),
            LocalOptimizer("adamw", 0.01, 0.0, 0.1),
            LocalOptimizer("sgd", 0.3, 0.0, 0.0, proximal_mu=0.7),
            LocalOptimizer("adamw", 0.01, 0.0, 0.0, proximal_mu=0.7),
        ],
        ids=["sgd", "momentum", "adamw", "fedprox", "fedprox-adamw"],
    )
    def test_four_steps_equal_a_plain_torch_loop(
        self, bases: dict[str, Path], texts: TokenizedTexts, optimizer: LocalOptimizer, private: bool
    ) -> None:
        """The loop below shares no code with Hanse's but the network. Divisor: the expected batch size, 4."""
        draws = [np.array([0, 1, 2, 6]), np.array([5]), np.array([7, 3]), np.array([2, 4, 0])]
        # Some gradients of the whole model are zero but for rounding (the key's bias); AdamW would blow them up.
        mode = "lora" if optimizer.kind == "adamw" else "full"
        ours, plain = built(bases["bert"], mode), built(bases["bert"], mode)
        start = ours.weights()
        if private:
            train_privately(trainee_of(ours, texts, 2), plan_of(clip=1e6), optimizer, draws, SeededRandomness(1))
        else:
            train_without_privacy(trainee_of(ours, texts, 2), plan_of(), optimizer, draws)
        parameters = list(plain.trainable().values())
        origin = [parameter.detach().clone() for parameter in parameters]
        if optimizer.kind == "adamw":
            step: torch.optim.Optimizer = torch.optim.AdamW(
                parameters, lr=0.01, betas=(0.9, 0.99), weight_decay=optimizer.weight_decay
            )
        else:
            step = torch.optim.SGD(
                parameters, optimizer.learning_rate, optimizer.momentum, weight_decay=optimizer.weight_decay
            )
        for indexes in draws:
            batch = batch_of(texts, indexes.tolist())
            loss = nn.functional.cross_entropy(plain(**batch.inputs).logits, batch.labels, reduction="sum") / 4
            pull = sum(((p - o) ** 2).sum() for p, o in zip(parameters, origin, strict=True))
            step.zero_grad()
            (loss + 0.5 * optimizer.proximal_mu * pull).backward()
            step.step()
        assert distance(ours.weights(), plain.weights()) < 2e-4
        assert distance(ours.weights(), start) > 0.01


class TestAfterwards:
    """What a round leaves in the process."""

    def test_no_trace_of_opacus_is_left(self, bases: dict[str, Path], texts: TokenizedTexts) -> None:
        classifier = built(bases["bert"], "lora", "mean")
        train(trainee_of(classifier, texts), plan_of(), [np.arange(8)], private=True)
        assert not classifier.training
        assert not leftovers(classifier)

    def test_p15_a_failed_step_leaves_no_activations_and_the_next_round_is_right(
        self, bases: dict[str, Path], texts: TokenizedTexts
    ) -> None:
        """Activations are private; and Opacus would mix stale ones into later gradients."""
        classifier, fresh = (built(bases["bert"], "lora", "mean") for _ in range(2))
        broken = trainee_of(classifier, texts)

        def wrong_labels(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            for batch in batches(texts, indexes, 4):
                yield TrainingBatch(batch.inputs, batch.labels + 100)

        with pytest.raises(IndexError):
            train(Trainee(classifier, broken.parameters, wrong_labels), plan_of(), [np.arange(3)], private=True)
        assert not leftovers(classifier)
        for each in (classifier, fresh):
            train(trainee_of(each, texts), plan_of(), [np.arange(8), np.arange(2)], private=True)
        assert distance(classifier.weights(), fresh.weights()) == 0.0

    def test_p15_training_logs_and_prints_nothing(
        self,
        bases: dict[str, Path],
        texts: TokenizedTexts,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        """Not at the most talkative level either: no text, loss, length or batch size can slip out."""
        caplog.set_level(logging.DEBUG)
        classifier = built(bases["bert"], "full", "mean")
        caplog.clear()
        capfd.readouterr()
        train(trainee_of(classifier, texts, 3), plan_of(noise=1.0), [np.arange(7)], private=True)
        train(trainee_of(classifier, texts, 3), plan_of(), [np.arange(7)], private=False)
        written = [record.getMessage() for record in caplog.records] + [str(w.message) for w in recwarn.list]
        assert not [line for line in written if any(character.isdigit() for character in line)], written
        assert not [line for line in written if any(word in line for word in ("good", "bad", "lovely", "poor"))]
        assert capfd.readouterr() == ("", "")

    def test_batches_are_released(self, bases: dict[str, Path], texts: TokenizedTexts) -> None:
        classifier = built(bases["bert"], "lora", "mean")
        train(trainee_of(classifier, texts), plan_of(), [np.arange(8)], private=True)
        gc.collect()
        assert all(parameter.grad is None for parameter in classifier.parameters())


def leftovers(network: nn.Module) -> list[str]:
    """Names of what Opacus attaches to modules and parameters."""
    on_modules = ("activations", "max_batch_len", "autograd_grad_sample_hooks", "ft_compute_sample_grad")
    found = [name for module in network.modules() for name in on_modules if hasattr(module, name)]
    found += [
        name
        for parameter in network.parameters()
        for name in ("grad_sample", "_forward_counter", "_current_grad_sample")
        if hasattr(parameter, name)
    ]
    found += ["hook" for module in network.modules() if module._forward_hooks or module._backward_hooks]
    return found


def test_a_trainee_runs_in_full_precision_by_default(bases: dict[str, Path], texts: TokenizedTexts) -> None:
    assert trainee_of(built(bases["bert"], "head"), texts).precision is nullcontext
