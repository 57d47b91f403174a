"""One forward pass over texts whose tokens have labels: tags of words, or what a mask hides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput
from common.evaluation.evaluate import Evaluation
from common.evaluation.masked import MaskedScore
from common.token_targets import UNLABELLED

__all__ = ["TokenBatch", "evaluate_masked", "labelled_logits"]

Precision = Callable[[], AbstractContextManager[None]]


class TokenBatch(Protocol):
    """Some texts, ready for the model, with the labels of their tokens."""

    @property
    def indexes(self) -> NDArray[np.int64]:
        """Which texts these are, ``(batch,)``."""

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model's arguments, ``positions`` ``(batch, most labelled)`` among them."""

    @property
    def labels(self) -> torch.Tensor:
        """``(batch, most labelled)``, padded with ``UNLABELLED``."""


def labelled_logits(
    model: Callable[..., Any],
    batches: Iterable[TokenBatch],
    device: torch.device,
    precision: Precision = nullcontext,
) -> NDArray[np.float32]:
    """Logits of every labelled token, text after text whatever the batches' order: ``(tokens, labels)``.

    ``model(**inputs)`` answers with an object that has ``logits`` ``(batch, most labelled, labels)``.
    """
    parts: dict[int, torch.Tensor] = {}
    with torch.inference_mode(), precision():
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            logits = model(**inputs).logits.float().cpu()
            for row, index in enumerate(batch.indexes.tolist()):
                parts[index] = logits[row][batch.labels[row] != UNLABELLED]
    if not parts:
        raise BadInput("there are no examples to predict; give at least 1")
    joined: NDArray[np.float32] = torch.cat([parts[index] for index in sorted(parts)]).numpy()
    return joined


@dataclass
class _Part:
    losses: list[NDArray[np.float64]]
    correct: list[NDArray[np.bool_]]

    def score(self) -> MaskedScore:
        return MaskedScore.of(np.concatenate(self.losses), np.concatenate(self.correct))


def evaluate_masked(
    model: Callable[..., Any],
    batches: Iterable[TokenBatch],
    device: torch.device,
    precision: Precision = nullcontext,
    domains: Sequence[str] | None = None,
) -> Evaluation:
    """Score guesses of hidden tokens, overall and by domain; keeps no logits beyond a batch.

    Raises `BadInput` where no token is hidden, and `RunFailed` where the model answers with NaN.
    """
    parts: dict[str, _Part] = {}
    with torch.inference_mode(), precision():
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            labels = batch.labels.to(device)
            logits = model(**inputs).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=UNLABELLED, reduction="none"
            )
            right = logits.argmax(2) == labels
            for row, index in enumerate(batch.indexes.tolist()):
                asked = labels[row] != UNLABELLED
                part = parts.setdefault(domains[index] if domains else "", _Part([], []))
                part.losses.append(losses[row][asked].cpu().double().numpy())
                part.correct.append(right[row][asked].cpu().numpy())
    scores = {name: part.score() for name, part in parts.items() if any(map(len, part.losses))}
    if not scores:
        raise BadInput("no token of these texts can be hidden; give longer texts")
    first, *others = scores.values()
    overall = sum(others, first)
    return Evaluation(overall, {name: scores[name] for name in sorted(scores)} if domains else {})
