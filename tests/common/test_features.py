"""Frozen features: computed once, only for texts that are asked for, each from its own text alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from common.features import FrozenFeatures
from common.model import Classifier, build_classifier
from common.study import Study
from common.text import TokenizedTexts, load_tokenizer, tokenize
from tests.tiny import tiny_rows

TEXTS = [text for text, _, _ in tiny_rows(12, seed=4)]


@pytest.fixture
def classifier(tiny_study: Study) -> Classifier:
    """The tiny study's model."""
    return build_classifier(tiny_study)


def tokenized(base: Path, texts: Sequence[str]) -> TokenizedTexts:
    return tokenize(load_tokenizer(base), texts, [0] * len(texts), 16)


def features(texts: TokenizedTexts, classifier: Classifier, indexes: list[int], size: int = 4) -> torch.Tensor:
    return FrozenFeatures(texts).of(np.array(indexes, np.int64), classifier, size, nullcontext)


def test_features_are_the_classifiers_in_the_order_asked_for(tiny_base: Path, classifier: Classifier) -> None:
    texts = tokenized(tiny_base, TEXTS)
    found = features(texts, classifier, [7, 0, 7, 3])
    ids = torch.from_numpy(texts.tokens[texts.offsets[7] : texts.offsets[8]].astype(np.int64))[None]
    with torch.inference_mode():
        wanted = classifier.eval().features(ids, torch.ones_like(ids))
    assert found.shape == (4, 32)
    assert torch.allclose(found[0], wanted[0], atol=1e-5)
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_p10_removing_a_text_changes_no_other_texts_features(tiny_base: Path, classifier: Classifier) -> None:
    """Within float32 rounding of other padding: 1e-5 on values of size 1."""
    whole = features(tokenized(tiny_base, TEXTS), classifier, list(range(12)))
    for removed in (0, 5, 11):
        kept = [index for index in range(12) if index != removed]
        fewer = features(tokenized(tiny_base, [TEXTS[i] for i in kept]), classifier, list(range(11)))
        assert (whole[kept] - fewer).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 1e-2  # and texts do differ


def test_every_text_is_computed_once_and_only_if_drawn(
    tiny_base: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    original = classifier.features

    def counting(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        rows.append(len(input_ids))
        return original(input_ids, attention_mask)

    monkeypatch.setattr(classifier, "features", counting)
    store = FrozenFeatures(tokenized(tiny_base, TEXTS))
    first = store.of(np.array([1, 2, 3, 4, 5]), classifier, 2, nullcontext)
    assert rows == [2, 2, 1]
    again = store.of(np.array([5, 6, 1]), classifier, 2, nullcontext)
    assert rows == [2, 2, 1, 1]
    assert torch.equal(again[[0, 2]], first[[4, 0]])


def test_nothing_drawn_gives_an_empty_tensor(tiny_base: Path, classifier: Classifier) -> None:
    assert len(features(tokenized(tiny_base, TEXTS), classifier, [])) == 0


@pytest.mark.parametrize("training", [True, False])
def test_the_classifier_is_left_in_its_mode_and_dropout_stays_out(
    tiny_base: Path, classifier: Classifier, training: bool
) -> None:
    for module in classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    classifier.train(training)
    texts = tokenized(tiny_base, TEXTS)
    assert torch.equal(features(texts, classifier, [0, 1]), features(texts, classifier, [0, 1]))
    assert classifier.training is training
