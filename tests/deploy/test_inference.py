"""A saved model says of a text what the trained one says, whatever else is asked with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.base_model import resolve_base
from common.errors import BadInput
from common.model import Classifier, build_classifier
from common.study import Study
from common.study_file import parse_study
from common.text import load_tokenizer
from deploy.inference import SavedModel
from tests.tiny import tiny_rows, tiny_study_text

TEXTS = [text for text, _, _ in tiny_rows(20)]


@pytest.fixture(scope="module")
def study(tiny_base: Path, tiny_data: Path) -> Study:
    """The tiny study."""
    return parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny")


@pytest.fixture(scope="module")
def classifier(study: Study) -> Classifier:
    """The study's model with LoRA and head moved away from where they start."""
    made, chooser = build_classifier(study), np.random.default_rng(0)
    made.load({n: v + chooser.normal(size=v.shape).astype(np.float32) / 3 for n, v in made.weights().items()})
    return made.eval()


@pytest.fixture(scope="module")
def saved(study: Study, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """The model from its folder."""
    folder = tmp_path_factory.mktemp("model")
    classifier.save(folder)
    load_tokenizer(resolve_base(study.model.base).path).save_pretrained(str(folder))
    return SavedModel(folder)


def test_logits_are_those_of_the_trained_model(saved: SavedModel, classifier: Classifier, study: Study) -> None:
    tokenizer = load_tokenizer(resolve_base(study.model.base).path)
    for text, found in zip(TEXTS, saved.logits(TEXTS), strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
            expected = classifier(**inputs).logits[0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


def test_answers_come_in_the_order_of_the_texts_and_do_not_depend_on_company(saved: SavedModel) -> None:
    together, turned = saved.logits(TEXTS), saved.logits(TEXTS[::-1])
    np.testing.assert_allclose(together, turned[::-1], atol=1e-5)
    np.testing.assert_allclose(together[3], saved.logits([TEXTS[3]])[0], atol=1e-5)
    assert np.abs(together - together[0]).max() > 0.01  # texts are told apart


def test_probabilities_are_the_softmax(saved: SavedModel) -> None:
    logits, found = saved.logits(TEXTS).astype(np.float64), saved.probabilities(TEXTS)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_labels_are_the_studys(saved: SavedModel, study: Study) -> None:
    assert saved.labels == study.task.labels


def test_a_text_longer_than_the_model_reads_is_cut(saved: SavedModel) -> None:
    assert np.isfinite(saved.logits(["good " * 5000])).all()


def test_words_that_the_model_has_never_seen_are_no_trouble(saved: SavedModel) -> None:
    assert np.isfinite(saved.logits(["\U0001f600 zzz", "\u0000", "."])).all()


@pytest.mark.parametrize(
    "content", [{}, {"model.safetensors": b"x"}, {"model.safetensors": b"", "config.json": b"{"}]
)
def test_a_folder_without_a_model_is_refused(tmp_path: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=r"holds no \*.safetensors|is not a model folder"):
        SavedModel(tmp_path)


def test_a_model_whose_weights_are_damaged_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    for file in tiny_base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"weights cannot be loaded|is not a model folder"):
        SavedModel(tmp_path)
