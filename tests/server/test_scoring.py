"""The coordinator's scores equal those of the plain forward pass, and kept features never go stale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.base_model import resolve_base
from common.evaluation import Evaluation, evaluate_logits
from common.examples import Example
from common.features import FrozenFeatures
from common.model import Classifier, build_classifier
from common.study import Study
from common.text import load_tokenizer
from common.virtual_sites import virtual_sites
from server.scoring import PublicSet


def by_hand(study: Study, classifier: Classifier, examples: tuple[Example, ...]) -> Evaluation:
    """Score one text after the other, without batches, padding or features kept."""
    tokenizer = load_tokenizer(resolve_base(study.model.base).path)
    rows = []
    classifier.eval()
    for example in examples:
        encoded = tokenizer(example.text, truncation=True, max_length=study.task.max_length, return_tensors="pt")
        with torch.no_grad():
            inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
            rows.append(classifier(**inputs).logits[0].numpy())
    return evaluate_logits(np.stack(rows), [e.label for e in examples], [e.domain for e in examples])


def shifted(classifier: Classifier, head_only: bool) -> None:
    """Move what trains."""
    moved = {name: value + np.float32(0.1) for name, value in classifier.weights(head_only).items()}
    chooser = np.random.default_rng(0)
    classifier.load({n: v + chooser.normal(size=v.shape).astype(np.float32) for n, v in moved.items()})


def assert_same(found: Evaluation, expected: Evaluation) -> None:
    """Counts agree exactly, losses up to rounding."""
    assert found.overall.confusion == expected.overall.confusion
    assert found.overall.loss == pytest.approx(expected.overall.loss, rel=1e-4)
    assert found.by_domain.keys() == expected.by_domain.keys()


@pytest.mark.parametrize("head_only", [True, False])
def test_scores_are_those_of_one_text_after_the_other_before_and_after_a_change(
    tiny_study: Study, head_only: bool
) -> None:
    classifier, examples = build_classifier(tiny_study), virtual_sites(tiny_study).validation
    public = PublicSet(tiny_study, examples)
    first = public.score(classifier, encoder_changed=True)
    assert_same(first, by_hand(tiny_study, classifier, examples))
    shifted(classifier, head_only)
    second = public.score(classifier, encoder_changed=not head_only)
    assert_same(second, by_hand(tiny_study, classifier, examples))
    assert second.overall.loss != pytest.approx(first.overall.loss, rel=1e-3)


def test_features_of_an_unchanged_encoder_are_computed_once(
    tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, examples = build_classifier(tiny_study), virtual_sites(tiny_study).validation
    public, encoded = PublicSet(tiny_study, examples), []
    features = Classifier.features

    def counting(self: Classifier, **inputs: torch.Tensor) -> torch.Tensor:
        encoded.append(len(inputs["input_ids"]))
        return features(self, **inputs)

    monkeypatch.setattr(Classifier, "features", counting)
    public.score(classifier, encoder_changed=False)
    assert sum(encoded) == len(examples)
    public.score(classifier, encoder_changed=False)
    assert sum(encoded) == len(examples)
    public.score(classifier, encoder_changed=True)
    assert sum(encoded) == 2 * len(examples)


def test_examples_without_a_domain_are_scored_as_a_whole_only(tiny_study: Study) -> None:
    examples = [Example("good film", 1), Example("bad film", 0)]
    found = PublicSet(tiny_study, examples).score(build_classifier(tiny_study), encoder_changed=False)
    assert found.by_domain == {}
    assert found.overall.examples == 2


def test_features_are_in_the_order_that_was_asked_for(tiny_study: Study) -> None:
    from contextlib import nullcontext

    classifier, public = build_classifier(tiny_study), PublicSet(tiny_study, virtual_sites(tiny_study).validation)
    kept = FrozenFeatures(public._texts)
    some = np.array([5, 0, 3])
    one, other = (kept.of(order, classifier, 2, nullcontext) for order in (some, some[::-1].copy()))
    torch.testing.assert_close(one, other.flip(0))
