"""Scores the global model on the coordinator's public sets, with the shared evaluation module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from common.base_model import resolve_base
from common.device import autocast
from common.evaluation import Evaluation, evaluate_logits
from common.examples import Example
from common.features import FrozenFeatures
from common.model import Classifier
from common.study import Study
from common.text import TokenizedTexts, load_tokenizer, tokenize

__all__ = ["PublicSet"]


class PublicSet:
    """A public validation or test set, tokenized once."""

    def __init__(self, study: Study, examples: Sequence[Example]) -> None:
        tokenizer = load_tokenizer(resolve_base(study.model.base).path)
        self._study = study
        self._texts: TokenizedTexts = tokenize(
            tokenizer, [e.text for e in examples], [e.label for e in examples], study.task.max_length
        )
        self._domains = [e.domain for e in examples] if any(e.domain for e in examples) else None
        self._features = FrozenFeatures(self._texts)

    def score(self, classifier: Classifier, encoder_changed: bool, exact: bool = False) -> Evaluation:
        """Score the model; features of an encoder that has not changed since the last call are kept.

        ``exact`` computes in float32 whatever the study's precision, as anyone who loads the saved model will.
        """
        if encoder_changed:
            self._features = FrozenFeatures(self._texts)
        device = next(classifier.parameters()).device
        everything = np.arange(len(self._texts))
        precision = nullcontext if exact else autocast(self._study.training, device)
        features = self._features.of(everything, classifier, 128, precision)
        with torch.inference_mode():
            logits = classifier.classify(features).cpu().numpy()
        return evaluate_logits(logits, self._texts.labels, self._domains)
