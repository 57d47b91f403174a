"""The preflight passes what is private as written, and finds each way in which it would not be (P14).

Most faults are planted in a step written here, which shares no code with the clipping: it takes one example at a
time through plain autograd. So the tests hold whatever the clipping is built on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import client.clipping
import client.layer_rules
import client.preflight as module
from client import preflight_conditions, training
from client.layer_gradients import LayerGradient, SharedInput
from client.preflight import PreflightCheck, PreflightReport, preflight, require_preflight
from client.training import LocalOptimizer, StepPlan, Trainee, TrainingBatch, train_privately
from common.errors import NotYet, RunFailed
from common.model import Classifier, build_classifier
from common.privacy.randomness import Randomness
from common.study import Study
from common.study_file import parse_study
from tests.client.test_training import MODES, POOLED, relative_deberta
from tests.tiny import tiny_study_text, write_tiny_base

ALONE = "a unit alone has its own gradient"
IN_A_BATCH = "a batch has the gradients of its units"
CLIPPED = "every parameter is clipped, every unit to C"
EMPTY = "an empty batch is noise alone"
PERSONS = ("privacy.unit=group", "privacy.group_column=person", "privacy.rows_per_group=2")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each architecture."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: write_tiny_base(folder / name, name) for name, _ in POOLED}


def study_of(base: Path, *overrides: str) -> Study:
    """A study whose data does not exist: nothing may want it."""
    text = tiny_study_text(base, Path("no-such-data.csv"))
    return parse_study(text, "tiny", ("model.warm_start_steps=0", *overrides))


def examined(base: Path, *overrides: str) -> PreflightReport:
    study = study_of(base, *overrides)
    return preflight(build_classifier(study), study)


def failures(report: PreflightReport) -> set[str]:
    """What failed, without the part and precision it failed in."""
    return {check.name.partition(": ")[2] for check in report.checks if not check.passed}


class TestPasses:
    """What Hanse trains is private as written."""

    @pytest.mark.parametrize(("architecture", "pooling"), POOLED)
    @pytest.mark.parametrize("mode", MODES)
    def test_p14_every_model_and_mode_passes(
        self, bases: dict[str, Path], architecture: str, pooling: str, mode: str
    ) -> None:
        report = examined(
            bases[architecture], f"model.trainable={mode}", f"model.pooling={pooling}", "model.lora_targets=all"
        )
        assert report.ok, failures(report)
        assert [check.name for check in report.checks] == [
            f"{mode}, float32: {name}" for name in (ALONE, IN_A_BATCH, CLIPPED, EMPTY)
        ]

    @pytest.mark.parametrize("architecture", ["bert", "modernbert"])
    @pytest.mark.parametrize("mode", ["full", "lora"])
    def test_p14_under_bfloat16_both_precisions_are_proved(
        self, bases: dict[str, Path], architecture: str, mode: str
    ) -> None:
        report = examined(bases[architecture], f"model.trainable={mode}", "training.precision=bfloat16")
        assert report.ok, report
        assert {check.name.partition(":")[0] for check in report.checks} == {
            f"{mode}, float32",
            f"{mode}, bfloat16",
        }

    def test_p14_every_phase_is_looked_at(self, bases: dict[str, Path]) -> None:
        report = examined(bases["bert"], "model.warm_start_steps=3")
        assert {check.name.partition(":")[0] for check in report.checks} == {"head, float32", "lora, float32"}
        assert report.ok

    @pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
    def test_p14_a_study_with_dropout_passes(self, bases: dict[str, Path], architecture: str) -> None:
        """And with dropout left on it would not: two passes would differ."""
        overrides = ("model.trainable=full", "model.pooling=cls", "training.dropout=0.5")
        assert examined(bases[architecture], *overrides).ok
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preflight_conditions, "_switch_dropout_off", lambda classifier: None)
            assert not examined(bases[architecture], *overrides).ok

    def test_p14_physical_batches_of_one_pass(self, bases: dict[str, Path]) -> None:
        assert examined(bases["bert"], "model.trainable=full", "training.physical_batch_size=1").ok

    @pytest.mark.parametrize("mode", MODES)
    def test_p14_a_study_that_protects_persons_passes(self, bases: dict[str, Path], mode: str) -> None:
        report = examined(bases["bert"], f"model.trainable={mode}", *PERSONS)
        assert report.ok, failures(report)


class TestTexts:
    """What it looks at in place of data."""

    def test_p14_texts_are_random_unequal_and_the_same_every_time(self, bases: dict[str, Path]) -> None:
        study = study_of(bases["bert"])
        first, second = (batches_seen(build_classifier(study), study) for _ in range(2))
        assert len(first) > 10
        for batch in (*first, *second):
            assert all(torch.equal(batch.inputs[name], first[0].inputs[name]) for name in batch.inputs)
            assert torch.equal(batch.labels, first[0].labels)
        ids, mask = first[0].inputs["input_ids"], first[0].inputs["attention_mask"]
        assert len(set(mask.sum(dim=1).tolist())) == 4
        assert len(set(ids[mask == 1].tolist())) > 10
        assert 0 <= int(ids.min()) < int(ids.max()) < 28
        assert set(first[0].labels.tolist()) == {0, 1}

    def test_p14_the_padding_is_no_word_of_a_text(self, bases: dict[str, Path]) -> None:
        study = study_of(bases["bert"], "model.trainable=head")
        classifier = build_classifier(study)
        for padding in range(28):
            classifier.network.config.pad_token_id = padding
            texts = module._trainer_on_random_texts(classifier, study)._texts
            assert texts.pad_token == padding
            assert padding not in texts.tokens


def batches_seen(classifier: Classifier, study: Study) -> list[TrainingBatch]:
    """The four random texts as each private step of a preflight could see them."""
    seen = []

    def recording(trainee: Trainee, *rest: object) -> None:
        seen.extend(trainee.batches(np.arange(4)))
        train_privately(trainee, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train_privately", recording)
        preflight(classifier, study)
    return seen


class TestAfterwards:
    """It leaves no trace."""

    @pytest.mark.parametrize("breaks", [False, True])
    @pytest.mark.parametrize("architecture", ["bert", "modernbert"])
    def test_p14_weights_modes_dropout_and_random_state_are_those_of_before(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, architecture: str, breaks: bool
    ) -> None:
        if breaks:
            monkeypatch.setattr(module, "_prove_phase", planted_error)
        study = study_of(bases[architecture], "training.dropout=0.25", "model.warm_start_steps=1")
        classifier = build_classifier(study)
        classifier.train()
        classifier.network.base_model.eval()
        before, random = trace(classifier), torch.get_rng_state()
        with pytest.raises(KeyboardInterrupt) if breaks else nullcontext():
            preflight(classifier, study)
        after = trace(classifier)
        assert torch.equal(random, torch.get_rng_state())
        assert all(torch.equal(before[0][name], value) for name, value in after[0].items())
        assert before[1:] == after[1:]
        assert all(parameter.grad is None for parameter in classifier.parameters())


def planted_error(*arguments: object) -> list[PreflightCheck]:
    torch.rand(3)
    raise KeyboardInterrupt


def trace(classifier: Classifier) -> tuple[dict[str, torch.Tensor], list[object], list[str]]:
    """Weights; modes and dropout rates; names of what trains."""
    modes = [
        (name, layer.training, getattr(layer, "p", None), getattr(layer, "attention_dropout", None))
        for name, layer in classifier.named_modules()
    ]
    weights = {name: value.clone() for name, value in classifier.state_dict().items()}
    return weights, list(modes), list(classifier.trainable())


Contributions = list[list[torch.Tensor]]
Fault = Callable[[Contributions, StepPlan], Contributions]


def naive_step(fault: Fault, noises: int = 1) -> Callable[..., None]:
    """DP-SGD by the book, one example at a time; ``fault`` turns its gradients into contributions to the sum."""

    def step(
        trainee: Trainee,
        plan: StepPlan,
        optimizer: LocalOptimizer,
        draws: Sequence[NDArray[np.int64]],
        randomness: Randomness,
    ) -> None:
        parameters = list(trainee.parameters)
        (drawn,) = draws
        gradients = []
        for index in drawn:
            (batch,) = trainee.batches(np.array([index]))
            with trainee.precision():
                logits = trainee.network(**batch.inputs).logits
            loss = nn.functional.cross_entropy(logits.float(), batch.labels)
            gradients.append(list(torch.autograd.grad(loss, parameters, materialize_grads=True)))
        contributions = fault(gradients, plan)
        with torch.no_grad():
            for place, parameter in enumerate(parameters):
                total = sum((one[place] for one in contributions), torch.zeros_like(parameter))
                for _ in range(noises):
                    total = randomness.noisy_sum(total, plan.noise_multiplier * plan.max_grad_norm)
                parameter -= optimizer.learning_rate * total / plan.expected_batch_size

    return step


def factor(gradient: list[torch.Tensor], norm: float) -> float:
    return min(1.0, 0.9999 * norm / float(torch.cat([part.flatten() for part in gradient]).norm()))


def by_the_book(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[part * factor(g, plan.max_grad_norm) for part in g] for g in gradients]


def not_clipped(gradients: Contributions, plan: StepPlan) -> Contributions:
    return gradients


def one_unclipped(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[g[0], *clipped[1:]] for g, clipped in zip(gradients, by_the_book(gradients, plan), strict=True)]


def one_left_out_of_the_norm(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[part * factor(g[1:], plan.max_grad_norm) for part in g] for g in gradients]


def one_left_out(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[0 * clipped[0], *clipped[1:]] for clipped in by_the_book(gradients, plan)]


def one_doubled(gradients: Contributions, plan: StepPlan) -> Contributions:
    return by_the_book([[2 * g[0], *g[1:]] for g in gradients], plan)


def clipped_apart(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[part * factor([part], plan.max_grad_norm) for part in g] for g in gradients]


def one_factor_for_all(gradients: Contributions, plan: StepPlan) -> Contributions:
    """No contribution above C, and yet each depends on the rest of the batch."""
    least = min((factor(g, plan.max_grad_norm) for g in gradients), default=1.0)
    return [[part * least for part in g] for g in gradients]


def sum_clipped(gradients: Contributions, plan: StepPlan) -> Contributions:
    """The batch as a whole is clipped to C: as if it were one example."""
    summed = [sum(parts, torch.zeros_like(parts[0])) for parts in zip(*gradients, strict=True)]
    return by_the_book([summed] if gradients else [], plan)


def one_mixed(gradients: Contributions, plan: StepPlan) -> Contributions:
    """All of one parameter's gradient falls to the first example, as with a table that the batch shares."""
    shared = sum((g[0] for g in gradients), torch.zeros(()))
    return by_the_book([[shared if row == 0 else 0 * g[0], *g[1:]] for row, g in enumerate(gradients)], plan)


def right_as_a_whole(gradients: Contributions, plan: StepPlan) -> Contributions:
    """Units alone are right, and so is the sum of all; in other company they are mixed."""
    return (one_mixed if len(gradients) == 3 else by_the_book)(gradients, plan)


def loss_over_batch(gradients: Contributions, plan: StepPlan) -> Contributions:
    return by_the_book([[part / len(gradients) for part in g] for g in gradients], plan)


def last_dropped(gradients: Contributions, plan: StepPlan) -> Contributions:
    return by_the_book(gradients[:-1] if len(gradients) > 1 else gradients, plan)


def a_little_over(gradients: Contributions, plan: StepPlan) -> Contributions:
    return [[part * 1.0004 for part in clipped] for clipped in by_the_book(gradients, plan)]


def crashes_when_empty(gradients: Contributions, plan: StepPlan) -> Contributions:
    torch.stack([g[0] for g in gradients])
    return by_the_book(gradients, plan)


def not_a_number_when_empty(gradients: Contributions, plan: StepPlan) -> Contributions:
    """In every parameter but the first."""
    return by_the_book(gradients, plan) or [[torch.zeros(()), *[torch.full((), torch.nan)] * 10_000]]


def not_a_number_when_clipped_alone(gradients: Contributions, plan: StepPlan) -> Contributions:
    clipped = by_the_book(gradients, plan)
    if len(clipped) == 1 and factor(gradients[0], plan.max_grad_norm) < 1:
        clipped[0][-1] = clipped[0][-1] * torch.nan
    return clipped


class TestPlantedSteps:
    """A step that is wrong in one way is caught by the check that is for it."""

    def proved(self, step: Callable[..., None], base: Path, *overrides: str) -> PreflightReport:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "train_privately", step)
            return examined(base, *overrides)

    @pytest.mark.parametrize("mode", MODES)
    def test_p14_a_step_by_the_book_passes(self, bases: dict[str, Path], mode: str) -> None:
        """The control: what the faults below are planted in is right."""
        report = self.proved(naive_step(by_the_book), bases["bert"], f"model.trainable={mode}")
        assert report.ok, failures(report)

    @pytest.mark.parametrize(
        ("fault", "caught_by"),
        [
            (not_clipped, {CLIPPED}),
            (one_unclipped, {CLIPPED}),
            (one_left_out_of_the_norm, {CLIPPED}),
            (one_left_out, {ALONE, IN_A_BATCH, CLIPPED}),
            (one_doubled, {ALONE, IN_A_BATCH, CLIPPED}),
            (clipped_apart, {CLIPPED}),
            (one_factor_for_all, {CLIPPED}),
            (sum_clipped, {CLIPPED}),
            (one_mixed, {CLIPPED}),
            (right_as_a_whole, {CLIPPED}),
            (loss_over_batch, {IN_A_BATCH, CLIPPED}),
            (last_dropped, {IN_A_BATCH, CLIPPED}),
            (a_little_over, {CLIPPED}),
            (crashes_when_empty, {EMPTY}),
            (not_a_number_when_empty, {EMPTY}),
            (not_a_number_when_clipped_alone, {CLIPPED}),
        ],
        ids=lambda value: value.__name__ if callable(value) else "",
    )
    def test_p14_a_wrong_step_is_caught(self, bases: dict[str, Path], fault: Fault, caught_by: set[str]) -> None:
        assert failures(self.proved(naive_step(fault), bases["bert"])) == caught_by

    @pytest.mark.parametrize("noises", [0, 2])
    def test_p14_noise_left_out_or_added_twice_is_caught(self, bases: dict[str, Path], noises: int) -> None:
        assert failures(self.proved(naive_step(by_the_book, noises), bases["bert"])) == {EMPTY}

    def test_p14_a_parameter_that_goes_unclipped_is_named(self, bases: dict[str, Path]) -> None:
        report = self.proved(naive_step(one_unclipped), bases["bert"], "model.trainable=full")
        (failed,) = (check for check in report.checks if not check.passed)
        assert failed.detail.endswith("most in network.bert.embeddings.word_embeddings.weight")

    def test_p14_clipping_that_slips_under_bfloat16_alone_is_caught(self, bases: dict[str, Path]) -> None:
        """By far less than the tolerance of bfloat16: no contribution may pass C in any precision."""
        right, wrong = naive_step(by_the_book), naive_step(a_little_over)

        def step(trainee: Trainee, *rest: object) -> None:
            (right if trainee.precision is nullcontext else wrong)(trainee, *rest)

        report = self.proved(step, bases["bert"], "training.precision=bfloat16")
        assert [check.name for check in report.checks if not check.passed] == [f"lora, bfloat16: {CLIPPED}"]

    def test_p14_a_fault_in_the_head_phase_alone_is_caught(self, bases: dict[str, Path]) -> None:
        right, wrong = naive_step(by_the_book), naive_step(not_clipped)

        def step(trainee: Trainee, *rest: object) -> None:
            (right if isinstance(trainee.network, Classifier) else wrong)(trainee, *rest)

        report = self.proved(step, bases["bert"], "model.warm_start_steps=2")
        assert [check.name for check in report.checks if not check.passed] == [f"head, float32: {CLIPPED}"]


class Mixing(nn.Module):
    """Adds a trainable share of the batch's mean to each row."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor([0.5, 0.2]))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + self.share * logits.mean(dim=0, keepdim=True)


class TestPlantedModels:
    """A model in which examples meet is caught, in the real pipeline."""

    @pytest.mark.parametrize("layer", [Mixing, lambda: nn.BatchNorm1d(2)], ids=["mixing", "batchnorm"])
    @pytest.mark.parametrize("mode", ["lora", "head"])
    def test_p14_a_trainable_layer_that_mixes_examples_is_caught(
        self, bases: dict[str, Path], layer: Callable[[], nn.Module], mode: str
    ) -> None:
        study = study_of(bases["bert"], f"model.trainable={mode}")
        classifier = build_classifier(study)
        classifier.network.classifier = nn.Sequential(classifier.network.classifier, layer())
        classifier._head_names = classifier._head_names | {
            name for name, _ in classifier.named_parameters() if ".classifier." in name
        }
        assert failures(preflight(classifier, study))

    def test_p14_a_frozen_operation_that_mixes_examples_is_caught(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An example alone is right; it is company that changes it."""
        own = Classifier.classify
        monkeypatch.setattr(
            Classifier, "classify", lambda self, features: own(self, features + features.mean(dim=0))
        )
        for mode in ("lora", "head"):
            found = failures(examined(bases["bert"], f"model.trainable={mode}"))
            assert {IN_A_BATCH, CLIPPED} <= found
            assert ALONE not in found

    @pytest.mark.parametrize("architecture", ["bert", "distilbert"])
    def test_p14_opacus_841_broadcast_positions_are_caught(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, architecture: str
    ) -> None:
        """Positions as transformers makes them reach their table as a batch of one."""

        def features(self: Classifier, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            output = self.network.base_model(input_ids=input_ids, attention_mask=attention_mask)
            return output.last_hidden_state[:, 0]  # type: ignore[no-any-return]

        monkeypatch.setattr(Classifier, "features", features)
        found = failures(examined(bases[architecture], "model.trainable=full", "model.pooling=cls"))
        assert found & {IN_A_BATCH, CLIPPED}

    def test_p14_relative_attention_is_refused_by_name_and_would_be_caught(
        self, bases: dict[str, Path], tmp_path: Path
    ) -> None:
        """A published DeBERTa shares one table of positions over the batch; LoRA on values alone is sound."""
        base = relative_deberta(bases["deberta-v2"], tmp_path / "relative")
        overrides = ("model.trainable=full", "model.pooling=cls")
        with pytest.raises(NotYet, match="relative attention, whose gradients do not separate by example"):
            examined(base, *overrides)
        assert failures(examined(base, *overrides, "privacy.enabled=false")) & {IN_A_BATCH, CLIPPED}
        assert examined(base, "model.pooling=cls", "model.lora_targets=value").ok

    def test_p14_a_model_without_any_gradient_proves_nothing_and_fails(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = Classifier.classify
        monkeypatch.setattr(Classifier, "classify", lambda self, features: 0 * own(self, features))
        assert {ALONE, IN_A_BATCH, CLIPPED} <= failures(examined(bases["bert"]))


class TestPlantedPipeline:
    """The real pipeline with one part broken."""

    def test_p14_a_loss_normalised_over_the_batch_is_caught(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = training.example_losses
        monkeypatch.setattr(
            training,
            "example_losses",
            lambda logits, labels, *rest: own(logits, labels, *rest) / len(labels),
        )
        found = failures(examined(bases["bert"]))
        assert IN_A_BATCH in found
        assert ALONE not in found

    def test_p14_a_loss_that_counts_the_other_labels_is_caught(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = training.example_losses
        monkeypatch.setattr(
            training,
            "example_losses",
            lambda logits, labels, *rest: own(logits, labels, *rest) * (1 + labels.sum()),
        )
        assert {IN_A_BATCH} <= failures(examined(bases["bert"]))

    @pytest.mark.parametrize("mode", ["lora", "head"])
    def test_p14_rows_of_a_person_that_are_clipped_one_by_one_are_caught(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        def row_by_row(trainee: Trainee, *rest: object) -> None:
            def loose(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
                for batch in trainee.batches(indexes):
                    yield TrainingBatch(batch.inputs, batch.labels)

            train_privately(replace(trainee, batches=loose), *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "train_privately", row_by_row)
        found = failures(examined(bases["bert"], f"model.trainable={mode}", *PERSONS))
        assert found == {ALONE, IN_A_BATCH, CLIPPED}

    @pytest.mark.usefixtures("doubled_linear_gradients")
    def test_p14_opacus_820_corrupted_lora_gradients_are_caught(self, bases: dict[str, Path]) -> None:
        assert {ALONE, IN_A_BATCH} <= failures(examined(bases["bert"]))

    @pytest.mark.usefixtures("factors_of_one")
    def test_p14_clip_factors_that_are_not_applied_are_caught(self, bases: dict[str, Path]) -> None:
        assert failures(examined(bases["bert"])) == {CLIPPED}


@pytest.fixture
def doubled_linear_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaches into what the clipping is built on: gradients of linear layers' weights count twice."""
    own = client.layer_rules.weight_gradient

    def doubled(parameter: torch.Tensor, shared: SharedInput, outputs: torch.Tensor) -> LayerGradient:
        return own(parameter, shared, 2 * outputs)

    monkeypatch.setattr(client.layer_rules, "weight_gradient", doubled)


@pytest.fixture
def factors_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaches into the clipping: every example's factor is 1."""
    own = client.clipping.clip_factors
    monkeypatch.setattr(client.clipping, "clip_factors", lambda *arguments: torch.ones_like(own(*arguments)))


class TestRequired:
    """What a site does with it."""

    def test_p14_a_failure_stops_the_site_and_names_the_check(
        self, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = study_of(bases["bert"])
        require_preflight(build_classifier(study), study)
        monkeypatch.setattr(module, "train_privately", naive_step(not_clipped))
        with pytest.raises(RunFailed, match=rf"^preflight: lora, float32: {CLIPPED}: .* \[model\] base"):
            require_preflight(build_classifier(study), study)
