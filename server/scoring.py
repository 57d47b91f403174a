"""Scores the global model on the coordinator's public sets, with the shared evaluation module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from common.base_model import resolve_base
from common.device import autocast
from common.evaluation import Evaluation, evaluate_logits, evaluate_tags
from common.evaluation.tokens import Precision, evaluate_masked, labelled_logits
from common.examples import Example
from common.features import FrozenFeatures
from common.model import Classifier
from common.study import Study
from common.text import TokenizedTexts, batches, load_tokenizer
from common.tokenizing import tokenized_for

__all__ = ["PublicSet"]

_BATCH_SIZE = 128
_MASKED_BATCH_SIZE = 32  # each hidden token has as many logits as the vocabulary has words


class PublicSet:
    """A public validation or test set, tokenized once."""

    def __init__(self, study: Study, examples: Sequence[Example]) -> None:
        tokenizer = load_tokenizer(resolve_base(study.model.base).path)
        self._study = study
        self._texts: TokenizedTexts = tokenized_for(tokenizer, study, examples)
        self._tags = [example.tags for example in examples]
        self._domains = [e.domain for e in examples] if any(e.domain for e in examples) else None
        self._features = FrozenFeatures(self._texts)

    def score(self, classifier: Classifier, encoder_changed: bool, exact: bool = False) -> Evaluation:
        """Score the model; features of an encoder that has not changed since the last call are kept.

        ``exact`` computes in float32 whatever the study's precision, as anyone who loads the saved model will.
        """
        if encoder_changed:
            self._features = FrozenFeatures(self._texts)
        device = next(classifier.parameters()).device
        precision = nullcontext if exact else autocast(self._study.training, device)
        if classifier.kind == "sequence-classification":
            return self._score_texts(classifier, device, precision)
        was_training = classifier.training
        classifier.eval()
        try:
            return self._score_tokens(classifier, device, precision)
        finally:
            classifier.train(was_training)

    def _score_texts(self, classifier: Classifier, device: torch.device, precision: Precision) -> Evaluation:
        everything = np.arange(len(self._texts))
        features = self._features.of(everything, classifier, _BATCH_SIZE, precision)
        with torch.inference_mode():
            logits = classifier.classify(features).cpu().numpy()
        return evaluate_logits(logits, self._texts.labels, self._domains)

    def _score_tokens(self, classifier: Classifier, device: torch.device, precision: Precision) -> Evaluation:
        everything, tags = np.arange(len(self._texts)), self._texts.tags
        if tags is None:
            hidden = batches(self._texts, everything, _MASKED_BATCH_SIZE)
            return evaluate_masked(classifier, hidden, device, precision, self._domains)
        logits = labelled_logits(classifier, batches(self._texts, everything, _BATCH_SIZE), device, precision)
        labels = self._study.task.labels
        return evaluate_tags(labels, logits, self._tags, tags.words_by_text(), self._domains)
