"""Attributions add up, name the words that matter, and are refused where they do not add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import RunFailed
from deploy.explain import attributions as attributions_module
from deploy.explain.attributions import LARGEST_ERROR, Attributions, Explainer
from deploy.explain.influence import influential_tokens, whole_words
from deploy.open_model import OpenModel
from tests.deploy.trained import trained_tiny_model
from tests.tiny import BAD, GOOD, OTHER, tiny_rows

TEXTS = [row[0] for row in tiny_rows(12, seed=31)]


@pytest.fixture(scope="module")
def explainer(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    """A tiny model that has learned good and bad words."""
    return Explainer(OpenModel(trained_tiny_model(tiny_base, tiny_data, tmp_path_factory.mktemp("trained"))))


def test_attributions_add_up_to_the_difference_within_one_percent(explainer: Explainer) -> None:
    for text in [*TEXTS, "zzz", "good"]:
        each = explainer.attributions(text)
        difference = each.margin - each.baseline_margin
        assert abs(sum(each.values) - difference) < LARGEST_ERROR * abs(difference)
        assert each.completeness_error < LARGEST_ERROR == 0.01


def test_margin_and_baseline_are_the_saved_models_own(explainer: Explainer) -> None:
    text = TEXTS[0]
    each = explainer.attributions(text)
    logits = explainer.model.logits([text])[0].astype(np.float64)
    assert each.label == logits.argmax()
    assert each.margin == pytest.approx(logits[each.label] - logits[1 - each.label], abs=1e-4)
    masked = " ".join(["[MASK]"] * len(text.split()))
    hidden = explainer.model.logits([masked])[0].astype(np.float64)
    assert each.baseline_margin == pytest.approx(hidden[each.label] - hidden[1 - each.label], abs=1e-4)


def test_attributions_are_the_integral_of_a_sum_written_out(explainer: Explainer) -> None:
    """A plain midpoint rule with many points, in this file, gives the same."""
    text = TEXTS[1]
    each = explainer.attributions(text)
    ids = torch.tensor([explainer.model.tokenizer(text)["input_ids"]])
    weights = explainer.network.get_input_embeddings().weight.detach()
    start = weights[torch.tensor([[2] + [4] * (ids.shape[1] - 2) + [3]])]
    end = weights[ids]
    total = torch.zeros_like(end)
    points = 2000
    for chunk in torch.arange(points).split(200):
        share = ((chunk + 0.5) / points).view(-1, 1, 1).double()
        inputs = (start + share * (end - start)).requires_grad_()
        logits = explainer.network(inputs_embeds=inputs, attention_mask=torch.ones(inputs.shape[:2])).logits
        (gradient,) = torch.autograd.grad((logits[:, each.label] - logits[:, 1 - each.label]).sum(), [inputs])
        total += gradient.sum(dim=0, keepdim=True) / points
    wanted = (total * (end - start)).sum(-1)[0].numpy()
    np.testing.assert_allclose(each.values, wanted, atol=0.02 * np.abs(wanted).sum())


def test_special_tokens_get_nothing(explainer: Explainer) -> None:
    each = explainer.attributions(TEXTS[0])
    assert (each.tokens[0], each.tokens[-1]) == ("[CLS]", "[SEP]")
    assert each.values[0] == each.values[-1] == 0


def test_the_word_that_decides_gets_the_most(explainer: Explainer) -> None:
    for text in TEXTS:
        each = explainer.attributions(text)
        strongest = each.tokens[int(np.argmax(each.values))]
        assert strongest in {*GOOD, *BAD}


def test_attributions_that_do_not_add_up_are_refused(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributions_module, "_MOST_POINTS", 64)
    with pytest.raises(RunFailed, match="completeness error"):
        explainer.attributions(TEXTS[0], largest_error=0.0)


def test_attention_of_each_layer_is_a_distribution(explainer: Explainer) -> None:
    attention = explainer.attention(TEXTS[0])
    tokens = len(explainer.attributions(TEXTS[0]).tokens)
    assert attention.shape == (explainer.network.config.num_hidden_layers, tokens, tokens)
    np.testing.assert_allclose(attention.sum(axis=2), 1.0)


def test_influential_words_are_those_that_the_model_learned(explainer: Explainer) -> None:
    many = [explainer.attributions(text) for text, _, _ in tiny_rows(60, seed=33)]
    found = influential_tokens(many, explainer.model.labels, {"[CLS]", "[SEP]"}, least=2, most=3)
    best = {label: next(row for row in found if row.label == label) for label in ("negative", "positive")}
    assert best["positive"].word in GOOD
    assert best["negative"].word in BAD
    assert all(row.mean > 0 for row in best.values())
    assert not {row.word for row in found} & set(OTHER[:2])


def attributed(*pairs: tuple[str, float]) -> Attributions:
    tokens, values = zip(*pairs, strict=True)
    return Attributions("", 0, 1.0, tokens, values, 0.0, 0.0, 0.0, 1)


def test_pieces_of_a_word_are_counted_together() -> None:
    each = attributed(("[CLS]", 9.0), ("Un", 1.0), ("##like", 0.5), ("##ly", 0.25), ("so", -1.0))
    assert whole_words(each, {"[CLS]"}) == [("unlikely", 1.75), ("so", -1.0)]


def test_rare_words_are_left_out_and_means_are_means() -> None:
    many = [attributed(("film", 1.0), ("odd", 5.0)), attributed(("Film", 3.0))]
    (row,) = influential_tokens(many, ["a", "b"], set(), least=2, most=5)
    assert (row.word, row.label, row.occurrences, row.mean) == ("film", "a", 2, 2.0)
