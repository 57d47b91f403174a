"""Attributions add up to what they explain, for every word of the text, in its own place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deploy.inference import SavedModel
from deploy.serving.attribution import explain
from tests.tiny import BAD, GOOD, OTHER


def lead(model: SavedModel, ids: torch.Tensor, label: int) -> float:
    """The label's logit less the mean of all."""
    with torch.no_grad():
        logits = model.network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    return float(logits[label] - logits.mean())


@pytest.mark.parametrize("label", [0, 1])
def test_attributions_add_up_to_the_change_from_the_baseline(tiny_model: Path, label: int) -> None:
    model = SavedModel(tiny_model)
    text = f"the {GOOD[0]} film and {BAD[1]} {OTHER[4]}"
    words = explain(model, text, label)
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    baseline = ids.clone()
    baseline[0, 1:-1] = model.tokenizer.pad_token_id
    change = lead(model, ids, label) - lead(model, baseline, label)
    total = sum(word.attribution for word in words if word.attribution is not None)
    assert abs(change) > 0.01
    assert total == pytest.approx(change, rel=0.1, abs=0.02)


def test_every_word_is_there_in_its_place(tiny_model: Path) -> None:
    model = SavedModel(tiny_model)
    text = "  the film,\n<b>good</b> unseen "
    words = explain(model, text, 1)
    assert [word.text for word in words] == ["the", "film,", "<b>good</b>", "unseen"]
    assert all(text[word.start : word.end] == word.text for word in words)


def test_words_beyond_what_is_read_have_none(tiny_model: Path) -> None:
    words = explain(SavedModel(tiny_model), "good " * 200, 1)
    assert len(words) == 200
    assert words[0].attribution is not None
    assert words[-1].attribution is None


def test_explaining_leaves_the_model_as_it_was(tiny_model: Path) -> None:
    model = SavedModel(tiny_model)
    before = model.logits(["the good film"])
    explain(model, "the good film", 0)
    assert (model.logits(["the good film"]) == before).all()
    assert all(parameter.grad is None for parameter in model.network.parameters())
