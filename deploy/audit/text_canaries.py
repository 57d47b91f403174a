"""Inserted texts: random words with a random label, which no model guesses right unless it saw them.

They are rows like any other to the site's loop. What the attacker sees of them is the released model's loss.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.training import example_losses
from common.model import Classifier
from common.text import TokenizedTexts, batches
from deploy.audit.canaries import ORDINARY, AuditedTexts

__all__ = ["joined", "losses", "ordinary", "random_texts"]

_LENGTH = 10
_SCORED_AT_ONCE = 128


def random_texts(like: TokenizedTexts, vocabulary: int, labels: int, count: int, seed: int) -> TokenizedTexts:
    """``count`` texts of random tokens between the first and last token of a text in ``like``."""
    draw = np.random.Generator(np.random.PCG64(seed))
    first, last = like.tokens[like.offsets[0]], like.tokens[like.offsets[1] - 1]
    tokens = draw.integers(vocabulary, size=(count, _LENGTH)).astype(like.tokens.dtype)
    tokens[tokens == like.pad_token] = last
    tokens[:, 0], tokens[:, -1] = first, last
    return TokenizedTexts(
        tokens.reshape(-1),
        _LENGTH * np.arange(count + 1),
        draw.integers(labels, size=count),
        like.pad_token,
        np.arange(count) if like.persons is not None else None,
    )


def joined(texts: TokenizedTexts, more: TokenizedTexts, chosen: NDArray[np.bool_]) -> TokenizedTexts:
    """``texts`` and the chosen ones of ``more``, each of which is one more unit."""
    which = np.flatnonzero(chosen)
    rows = [more.tokens[slice(*more.offsets[i : i + 2])] for i in which]
    ends = texts.offsets[-1] + np.cumsum(more.lengths[which])
    persons = texts.persons
    if persons is not None:
        persons = np.concatenate([persons, texts.units + np.arange(len(which))])
    return replace(
        texts,
        tokens=np.concatenate([texts.tokens, *rows]),
        offsets=np.concatenate([texts.offsets, ends]),
        labels=np.concatenate([texts.labels, more.labels[which]]),
        persons=persons,
    )


def ordinary(texts: TokenizedTexts) -> AuditedTexts:
    """Texts without any gradient canary."""
    return AuditedTexts(texts, np.full(len(texts), ORDINARY), 1, 1.0)


def losses(classifier: Classifier, texts: TokenizedTexts) -> NDArray[np.float64]:
    """The model's cross-entropy on each text, ``(texts,)``."""
    found = np.empty(len(texts))
    device = next(classifier.parameters()).device
    classifier.eval()
    for batch in batches(texts, np.arange(len(texts)), _SCORED_AT_ONCE):
        with torch.inference_mode():
            logits = classifier(**{name: value.to(device) for name, value in batch.inputs.items()}).logits
            found[batch.indexes] = example_losses(logits.cpu(), batch.labels).double().numpy()
    return found
