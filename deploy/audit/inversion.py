"""Gradient inversion, a demonstration: the words of a text, read from what one step on it releases.

A bag of word vectors and a linear head take one step on one text. The rows of the word table that moved are the
words that were read. With noise every row moves. Public, synthetic or embedded data only (PRIVACY P20): with
privacy off the text is in the open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.training import (
    LocalOptimizer,
    StepPlan,
    Trainee,
    TrainingBatch,
    train_privately,
    train_without_privacy,
)
from common.audit.intervals import interval
from common.privacy.mechanism import SampledGaussian
from common.privacy.randomness import SystemRandomness
from common.text import TokenizedTexts
from deploy.audit.result import Fact

__all__ = ["inversion_facts"]

_WIDTH = 16
_MOST_TEXTS = 50


@dataclass(frozen=True)
class _Words:
    """Distinct words of a text, and its label."""

    tokens: NDArray[np.int64]
    label: int


class _BagOfWords(nn.Module):
    """The mean of word vectors, and a linear head."""

    def __init__(self, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, _WIDTH)
        self.head = nn.Linear(_WIDTH, labels)

    def forward(self, words: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.table(words).mean(1)))


def inversion_facts(
    texts: TokenizedTexts, labels: int, claimed: SampledGaussian, seed: int, confidence: float
) -> tuple[Fact, ...]:
    """Share of words recovered from one step on one text, privacy off and on; one fact each, and chance.

    Args:
        texts: public ones; at most 50 are attacked, each by itself.
        labels: how many there are.
        claimed: its noise multiplier is used; the text is in the batch for certain, which favours the attacker.
        seed: of the model.
        confidence: of the intervals.
    """
    vocabulary = int(texts.tokens.max()) + 1
    chosen = [_words(texts, index) for index in range(min(_MOST_TEXTS, len(texts)))]
    torch_seed = torch.Generator().manual_seed(seed)
    model = _BagOfWords(vocabulary, labels)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_seed) * 0.5)
    total = sum(len(each.tokens) for each in chosen)
    chance = sum(len(each.tokens) ** 2 for each in chosen) / vocabulary / total
    words = f"{total} words of {len(chosen)} texts, vocabulary of {vocabulary}"
    return (
        _fact("words recovered, privacy off", chosen, model, None, confidence, words),
        _fact("words recovered, privacy on", chosen, model, claimed.noise_multiplier, confidence, words),
        Fact(name="words recovered by chance", value=chance, detail=words),
    )


def _words(texts: TokenizedTexts, index: int) -> _Words:
    tokens = texts.tokens[slice(*texts.offsets[index : index + 2])]
    return _Words(np.unique(tokens).astype(np.int64), int(texts.labels[index]))


def _fact(
    name: str, chosen: Sequence[_Words], model: _BagOfWords, noise: float | None, confidence: float, words: str
) -> Fact:
    recovered = sum(_recovered(each, model, noise) for each in chosen)
    found = interval(recovered, sum(len(each.tokens) for each in chosen), confidence)
    return Fact(name=name, value=found.estimate, lower=found.lower, upper=found.upper, detail=words)


def _recovered(words: _Words, model: _BagOfWords, noise: float | None) -> int:
    """Words among as many rows of the table as moved most in one step of SGD at rate 1, C = 1."""
    start = [parameter.detach().clone() for parameter in model.parameters()]

    def batches(_: NDArray[np.int64]) -> Iterator[TrainingBatch]:
        yield TrainingBatch({"words": torch.from_numpy(words.tokens)[None]}, torch.tensor([words.label]))

    trainee = Trainee(model, list(model.parameters()), batches)
    sgd = LocalOptimizer("sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    plan = StepPlan(1.0, noise or 0.0, 1.0, 1.0, steps=1)
    draws = [np.zeros(1, np.int64)]
    if noise is None:
        train_without_privacy(trainee, plan, sgd, draws)
    else:
        train_privately(trainee, plan, sgd, draws, SystemRandomness())
    moved = (model.table.weight.detach() - start[0]).norm(dim=1)
    with torch.no_grad():
        for parameter, before in zip(model.parameters(), start, strict=True):
            parameter.copy_(before)
    guessed = moved.topk(len(words.tokens)).indices.numpy()
    return int(np.isin(guessed, words.tokens).sum())
