"""The random texts on which a preflight trains: unequal lengths, unequal numbers of labelled tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from common.model import Classifier
from common.study import Study
from common.text import TokenizedTexts
from common.token_targets import Masking, WordTags

__all__ = ["LENGTHS", "PERSONS", "random_texts"]

LENGTHS = (3, 8, 5, 6)
"""Tokens of each text; no task reads fewer than 8."""
PERSONS = (0, 1, 1, 2)
"""Whose each text is, where persons are protected."""
_SEED = 14


def random_texts(classifier: Classifier, study: Study) -> TokenizedTexts:
    """Random tokens, never the padding, with random labels, tags or a mask, after the study's task."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    pad = classifier.network.config.pad_token_id or 0
    vocabulary = int(classifier.network.get_input_embeddings().num_embeddings)
    tokens = generator.integers(vocabulary - 1, size=sum(LENGTHS), dtype=np.int32)
    tokens += tokens >= pad
    labels = generator.integers(max(1, len(study.task.labels)), size=len(LENGTHS))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(LENGTHS)])
    persons = np.array(PERSONS) if study.privacy.unit == "group" else None
    texts = TokenizedTexts(tokens, offsets, labels, pad, persons)
    if study.task.kind == "token-classification":
        return replace(texts, tags=_random_tags(generator, len(study.task.labels)))
    if study.task.kind == "masked-language-modeling":
        return replace(texts, masking=Masking(int(tokens[0]), vocabulary, frozenset({pad}), _SEED))
    return texts


def _random_tags(generator: np.random.Generator, labels: int) -> WordTags:
    """Tags at some tokens of each text, in no two texts equally many."""
    counts = np.array([length // 2 + index % 2 for index, length in enumerate(LENGTHS)])
    chosen = [
        np.sort(generator.choice(length, count, replace=False))
        for length, count in zip(LENGTHS, counts, strict=True)
    ]
    positions = np.concatenate(chosen).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return WordTags(positions, positions, generator.integers(labels, size=len(positions)), offsets)
