"""Options that make training robust stay losses of one example: clipped as any other, at the same cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client import trainer as trainer_module
from client.adversarial import moved_embeddings
from client.preflight import preflight
from client.trainer import LocalTrainer, SiteFacts, only_trainable
from client.training import LocalOptimizer, StepPlan, TrainingBatch, example_losses, train_privately
from common.model import Classifier, WordDropout, build_classifier
from common.privacy.randomness import SeededRandomness
from common.study import Study
from common.study_file import parse_study
from common.text import load_tokenizer, tokenize
from tests.tiny import tiny_rows, tiny_study_text

ROWS = tiny_rows(40, seed=5)
ROBUST = ("training.word_dropout=0.2", "training.label_smoothing=0.1", "training.adversarial_radius=0.5")


def study_of(base: Path, data: Path, *changes: str) -> Study:
    return parse_study(tiny_study_text(base, data), "tiny", ["model.warm_start_steps=0", *changes])


def moved(classifier: Classifier) -> Classifier:
    """With every trainable parameter away from zero, so that gradients reach the embeddings."""
    chooser = np.random.default_rng(0)
    classifier.load(
        {n: v + chooser.normal(size=v.shape).astype(np.float32) / 3 for n, v in classifier.weights().items()}
    )
    return classifier


def trainer_of(study: Study, base: Path) -> LocalTrainer:
    texts = tokenize(load_tokenizer(base), [row[0] for row in ROWS], [row[1] == "positive" for row in ROWS], 16)
    return LocalTrainer(SiteFacts("site", 0, len(texts)), study, texts, moved(build_classifier(study)), 0.0)


@pytest.mark.parametrize("trainable", ["lora", "full", "bias", "head"])
def test_p14_preflight_proves_robust_training(trainable: str, tiny_base: Path, tiny_data: Path) -> None:
    study = study_of(tiny_base, tiny_data, f"model.trainable={trainable}", *ROBUST)
    report = preflight(build_classifier(study), study)
    assert [check.name for check in report.checks if not check.passed] == []


def test_p14_preflight_catches_a_move_that_mixes_examples(
    tiny_base: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tiny_base, tiny_data, "training.adversarial_radius=0.5")
    own = example_losses

    def coupled(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        return own(logits, labels.flip(0), smoothing)  # an example moves against another's label

    monkeypatch.setattr(trainer_module, "example_losses", coupled)
    assert any(not check.passed for check in preflight(build_classifier(study), study).checks)


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_p12_no_example_moves_a_robust_step_by_more_than_c(
    trainable: str, tiny_base: Path, tiny_data: Path
) -> None:
    study = study_of(tiny_base, tiny_data, f"model.trainable={trainable}", *ROBUST[1:])
    trainer, most = trainer_of(study, tiny_base), 0.01
    plan = StepPlan(1.0, 0.0, most, expected_batch_size=1.0, steps=1)
    sgd = LocalOptimizer("sgd", 1.0, 0.0, 0.0)

    def moves(units: list[int]) -> torch.Tensor:
        start = trainer.classifier.weights()
        with only_trainable(trainer.classifier, head_only=False) as parameters:
            before = [p.detach().clone() for p in parameters]
            draws = [np.array(units, dtype=np.int64)]
            train_privately(trainer.trainee(parameters), plan, sgd, draws, SeededRandomness(0))
            change = torch.cat([(b - p.detach()).flatten() for b, p in zip(before, parameters, strict=True)])
        trainer.classifier.load(start)
        return change

    everyone = list(range(len(ROWS)))
    whole = moves(everyone)
    for left_out in (0, 7, 39):
        others = moves([unit for unit in everyone if unit != left_out])
        assert float((whole - others).norm()) <= most * 1.001  # float32 sums of 40 terms
        assert float((whole - others).norm()) > most * 0.5


def test_p11_a_move_is_its_own_examples_whatever_the_company(tiny_base: Path, tiny_data: Path) -> None:
    classifier = moved(build_classifier(study_of(tiny_base, tiny_data))).eval()
    rows = ROWS[:6]
    texts = tokenize(load_tokenizer(tiny_base), [r[0] for r in rows], [r[1] == "positive" for r in rows], 16)
    from common.text import batches

    embedding = classifier.network.get_input_embeddings()

    def robust_logits(indexes: list[int]) -> dict[int, torch.Tensor]:
        (batch,) = batches(texts, np.array(indexes), 8)

        def losses() -> torch.Tensor:
            return example_losses(classifier(**batch.inputs).logits, batch.labels)

        plain = losses()
        with moved_embeddings(embedding, losses, radius=0.5), torch.no_grad():
            after = classifier(**batch.inputs).logits
        assert bool((example_losses(after, batch.labels) > plain.detach()).all())  # each moved against itself
        return dict(zip(batch.indexes.tolist(), after, strict=True))

    together = robust_logits([0, 1, 2, 3, 4, 5])
    for index in range(6):
        torch.testing.assert_close(robust_logits([index])[index], together[index], atol=1e-4, rtol=1e-4)


def test_a_move_has_the_radius_as_its_length_and_ends_with_the_context() -> None:
    embedding = torch.nn.Embedding(10, 4)
    head = torch.nn.Linear(4, 2)
    ids, labels = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([0, 1])

    def losses() -> torch.Tensor:
        return example_losses(head(embedding(ids).mean(dim=1)), labels)

    before = embedding(ids)
    with moved_embeddings(embedding, losses, radius=0.25):
        lengths = (embedding(ids) - before).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((2,), 0.25))
    assert torch.equal(embedding(ids), before)


def test_an_example_without_gradient_does_not_move() -> None:
    embedding = torch.nn.Embedding(10, 4)
    ids = torch.tensor([[1, 2]])
    before = embedding(ids)
    with moved_embeddings(embedding, lambda: embedding(ids).sum() * 0, radius=100.0):
        assert torch.equal(embedding(ids), before)


def test_word_dropout_hides_its_share_but_never_the_first_token_and_nothing_in_evaluation() -> None:
    """False alarm: 40,000 tokens at p = 0.3; six standard deviations, about 2e-9."""
    torch.manual_seed(0)
    layer, mask = WordDropout(0.3), torch.ones(2000, 21, dtype=torch.int64)
    hidden = layer.train()(mask)
    assert bool((hidden[:, 0] == 1).all())
    share = 1 - hidden[:, 1:].float().mean().item()
    assert abs(share - 0.3) < 6 * (0.3 * 0.7 / 40_000) ** 0.5
    assert torch.equal(layer.eval()(mask), mask)


def test_label_smoothing_is_the_mixture_with_all_labels() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    everyone = torch.stack([example_losses(logits, torch.full((5,), label)) for label in range(3)]).mean(0)
    wanted = 0.8 * example_losses(logits, labels) + 0.2 * everyone
    torch.testing.assert_close(example_losses(logits, labels, 0.2), wanted)


def test_the_study_reaches_the_training_step(tiny_base: Path, tiny_data: Path) -> None:
    study = study_of(tiny_base, tiny_data, *ROBUST)
    trainer = trainer_of(study, tiny_base)
    assert trainer.classifier.word_dropout.p == 0.2
    with only_trainable(trainer.classifier, head_only=False) as parameters:
        trainee = trainer.trainee(parameters)
    assert trainee.label_smoothing == 0.1
    batch: TrainingBatch = next(iter(trainee.batches(np.arange(4))))
    trainer.classifier.eval()
    plain = trainer.classifier(**batch.inputs).logits
    with trainee.perturbed(batch):
        assert not torch.allclose(trainer.classifier(**batch.inputs).logits, plain, atol=1e-4)
    torch.testing.assert_close(trainer.classifier(**batch.inputs).logits, plain)
