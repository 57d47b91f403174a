"""Which words spoke for a prediction, by integrated gradients on the word embeddings.

From a baseline in which every token but the special ones is padding's embedding, along the straight line to the
text: attribution = (embedding - baseline) * mean gradient of the predicted label's logit less the mean of all
(Sundararajan, Taly, Yan 2017, equation 3, by the midpoint rule). Attributions of a text add up to the change of
that difference between baseline and text, up to the error of the sum. They say what moved the model, not what is
true.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deploy.inference import SavedModel

__all__ = ["WordAttribution", "explain"]

_POINTS = 24
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class WordAttribution:
    """A word of the text and what it added to the predicted label's lead."""

    text: str
    start: int
    """Place of its first character."""
    end: int
    attribution: float | None
    """In logits; above 0 for the predicted label. None for what lies beyond the tokens that are read."""


def explain(model: SavedModel, text: str, label: int) -> tuple[WordAttribution, ...]:
    """Attribute the lead of ``label`` to the words of ``text``."""
    encoded = model.tokenizer(
        text,
        truncation=True,
        max_length=model.longest,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    special = encoded["special_tokens_mask"][0].bool()
    device = next(model.network.parameters()).device
    scores = _integrated(model, encoded["input_ids"].to(device), special.to(device), label)
    offsets = [tuple(map(int, pair)) for pair in encoded["offset_mapping"][0].tolist()]
    kept = [(start, end, score) for (start, end), score in zip(offsets, scores, strict=True) if end > start]
    return _by_word(text, kept)


def _integrated(model: SavedModel, ids: torch.Tensor, special: torch.Tensor, label: int) -> Sequence[float]:
    network: Any = model.network
    embed = network.get_input_embeddings()
    pad = model.tokenizer.pad_token_id or 0
    with torch.no_grad():
        whole = embed(ids)[0]
        baseline = embed(torch.where(special, ids[0], torch.full_like(ids[0], pad)))
    between = (torch.arange(_POINTS, device=whole.device, dtype=whole.dtype) + 0.5) / _POINTS
    path = (baseline + between[:, None, None] * (whole - baseline)).detach().requires_grad_(True)
    mask = torch.ones(path.shape[:2], dtype=torch.long, device=whole.device)
    training = network.training
    network.eval()
    try:
        logits = network(inputs_embeds=path, attention_mask=mask).logits.float()
        lead = (logits[:, label] - logits.mean(dim=1)).sum()
        (gradient,) = torch.autograd.grad(lead, path)
    finally:
        network.train(training)
    found: list[float] = ((whole - baseline) * gradient.mean(dim=0)).sum(dim=1).tolist()
    return found


def _by_word(text: str, tokens: Sequence[tuple[int, int, float]]) -> tuple[WordAttribution, ...]:
    """Add up the tokens of each word; a token belongs to the word in which its middle lies."""
    reached = max((end for _, end, _ in tokens), default=0)
    words = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        inside = [score for first, last, score in tokens if start <= (first + last) / 2 < end]
        words.append(WordAttribution(match[0], start, end, sum(inside) if start < reached else None))
    return tuple(words)
