"""Tags of words and hidden tokens train by the same path: each example's own loss and gradient, all clipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.clipping import ClippedBackward
from client.preflight import preflight
from client.trainer import LocalTrainer, SiteFacts
from client.training import LocalOptimizer, StepPlan, Trainee, TrainingBatch, example_losses, train_privately
from common.errors import HanseError, NotYet
from common.examples import Example
from common.model import Classifier, build_classifier
from common.privacy.randomness import SeededRandomness
from common.study import Study
from common.study_file import parse_study
from common.text import TokenizedTexts, batches, load_tokenizer
from common.token_targets import UNLABELLED
from common.tokenizing import tokenized_for
from tests.tiny import tiny_rows, tiny_sentences, tiny_study_text, write_tiny_base

TAGS = ("task.kind=token-classification", "task.labels=['O', 'B-THING', 'I-THING']")
MASKED = ("task.kind=masked-language-modeling", "task.labels=[]", "model.warm_start_steps=0")
KINDS = {"tags": TAGS, "masked": MASKED}
ARCHITECTURES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert")
LABELS = ("O", "B-THING", "I-THING")

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: write_tiny_base(folder / name, name) for name in ARCHITECTURES}


def study_of(base: Path, kind: str, *more: str) -> Study:
    text = tiny_study_text(base, base)
    return parse_study(text, "tiny", (*KINDS[kind], "model.pooling=cls", *more))


def texts_of(study: Study, base: Path) -> TokenizedTexts:
    """Eight texts of unequal lengths, with unequally many labels."""
    if study.task.kind == "token-classification":
        rows = tiny_sentences(8, seed=5)
        examples = [Example(" ".join(w), 0, tags=tuple(map(LABELS.index, tags))) for w, tags, _ in rows]
    else:
        examples = [Example(text, 0) for text, _, _ in tiny_rows(8, seed=5)]
    return tokenized_for(load_tokenizer(base), study, examples)


def moved(study: Study) -> Classifier:
    """The study's model, its trainable parameters off their initial values (LoRA's B and heads are zero there)."""
    classifier = build_classifier(study)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return classifier


def loop_sum(classifier: Classifier, texts: TokenizedTexts, clip: float) -> list[torch.Tensor]:
    """One text after the other, by ordinary autograd and the loss written out: the sum of clipped gradients."""
    parameters = list(classifier.trainable().values())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for index in range(len(texts)):
        (batch,) = batches(texts, np.array([index]), 1)
        logits = classifier(**batch.inputs).logits[0]
        own = [
            -torch.log_softmax(row, 0)[label]
            for row, label in zip(logits, batch.labels[0].tolist(), strict=True)
            if label != UNLABELLED
        ]
        gradients = torch.autograd.grad(
            torch.stack(own).mean(), parameters, allow_unused=True, materialize_grads=True
        )
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        for place, gradient in zip(total, gradients, strict=True):
            place += gradient * min(1.0, clip / norm)
    return total


@every_kind
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("clip", [1e6, 0.5])
def test_p11_p12_the_clipped_sum_is_that_of_a_loop(
    bases: dict[str, Path], kind: str, mode: str, clip: float
) -> None:
    study = study_of(bases["bert"], kind, f"model.trainable={mode}")
    classifier, texts = moved(study).eval(), texts_of(study, bases["bert"])
    expected = loop_sum(classifier, texts, clip)
    parameters = list(classifier.trainable().values())
    backward = ClippedBackward(classifier, parameters, clip)
    for batch in batches(texts, np.arange(8), 5):
        backward.backward(example_losses(backward(**batch.inputs).logits, batch.labels))
    backward.cleanup()
    whole = torch.cat([gradient.flatten() for gradient in expected]).norm()
    for parameter, wanted in zip(parameters, expected, strict=True):
        assert float((parameter.summed_grad - wanted).norm()) < 1e-3 * float(whole)


class TestLoss:
    """The loss of an example."""

    LOGITS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    LABELS = torch.tensor([[1, 2, 3, 4], [0, UNLABELLED, UNLABELLED, UNLABELLED], [UNLABELLED] * 4])

    def test_p11_it_is_the_mean_over_its_own_labelled_tokens_and_zero_without(self) -> None:
        found = example_losses(self.LOGITS, self.LABELS)
        log = torch.log_softmax(self.LOGITS, 2)
        assert found[0] == pytest.approx(float(-log[0].gather(1, self.LABELS[0][:, None]).mean()), rel=1e-5)
        assert found[1] == pytest.approx(float(-log[1, 0, 0]), rel=1e-5)
        assert found[2] == 0

    def test_p11_company_changes_nothing(self) -> None:
        together = example_losses(self.LOGITS, self.LABELS)
        for row in range(3):
            alone = example_losses(self.LOGITS[row : row + 1], self.LABELS[row : row + 1])
            assert alone[0] == pytest.approx(float(together[row]), rel=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@every_kind
def test_p14_the_preflight_proves_every_architecture(bases: dict[str, Path], kind: str, architecture: str) -> None:
    study = study_of(bases[architecture], kind)
    if (kind, architecture) == ("masked", "deberta-v2"):
        with pytest.raises(NotYet, match="not yet for deberta-v2"):
            build_classifier(study)
        return
    report = preflight(build_classifier(study), study)
    assert report.ok, [check for check in report.checks if not check.passed]


def test_p14_a_loss_that_is_normalised_over_the_batch_is_found_out(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def over_the_batch(self: Trainee, logits: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
        losses = example_losses(logits, batch.labels)
        counts = (batch.labels != UNLABELLED).sum(1)
        return losses * counts / counts.float().mean()

    study = study_of(bases["bert"], "tags")
    monkeypatch.setattr(Trainee, "losses", over_the_batch)
    assert not preflight(build_classifier(study), study).ok


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("mode", ["full", "bias", "lora"])
def test_p12_the_tied_output_layer_of_a_masked_model_never_trains(
    bases: dict[str, Path], architecture: str, mode: str
) -> None:
    classifier = build_classifier(study_of(bases[architecture], "masked", f"model.trainable={mode}"))
    output, table = classifier.network.get_output_embeddings(), classifier.network.get_input_embeddings()
    assert output.weight is table.weight
    assert not any(parameter.requires_grad for parameter in output.parameters())
    assert classifier.trainable()


def test_p12_a_tied_parameter_that_would_train_is_an_error(bases: dict[str, Path]) -> None:
    """Thawed by hand, it is refused before a gradient is made: it would be clipped in one of two places only."""
    classifier = build_classifier(study_of(bases["bert"], "masked", "model.trainable=full"))
    classifier.network.get_output_embeddings().weight.requires_grad_(True)
    with pytest.raises(HanseError, match="shared by two layers"):
        ClippedBackward(classifier, list(classifier.trainable().values()), 1.0)


class TestFeaturesOfWords:
    """The head alone trains on kept vectors of single words."""

    def test_the_heads_steps_are_those_of_the_whole_network(self, bases: dict[str, Path]) -> None:
        study = study_of(bases["bert"], "tags", "model.trainable=head")
        texts = texts_of(study, bases["bert"])
        results = []
        for kept in (True, False):
            classifier = build_classifier(study)
            trainer = LocalTrainer(SiteFacts("a", 0, 8), study, texts, classifier, 0.0)
            parameters = list(classifier.trainable(True).values())
            draws: list[NDArray[np.int64]] = [np.arange(8), np.array([3, 1])]
            trainee = trainer.head_trainee(parameters, draws) if kept else trainer.trainee(parameters)
            plan = StepPlan(1.0, 0.0, 0.5, 8.0, 2)
            train_privately(trainee, plan, LocalOptimizer("sgd", 1.0, 0.0, 0.0), draws, SeededRandomness(0, 0, 0))
            results.append([parameter.detach().clone() for parameter in parameters])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
            assert float(one.abs().max()) > 0


def test_another_round_hides_other_tokens_and_the_same_round_the_same(bases: dict[str, Path]) -> None:
    study = study_of(bases["bert"], "masked")
    texts = texts_of(study, bases["bert"])

    def hidden(number: int) -> Iterator[list[int]]:
        for batch in batches(texts.in_round(number), np.arange(8), 8):
            yield batch.inputs["input_ids"].flatten().tolist()

    assert list(hidden(1)) == list(hidden(1)) != list(hidden(2))
