"""Gradient canaries: rows whose gradient is known, of any norm, each in a direction of its own.

A canary's gradient lies in two layers beside the network, half in each, so that clipping layer by layer shows.
The network's output stays what it is: the layers act on gradients alone, so a canary pushes as hard in the last
step as in the first, whatever was learned. No production model holds these layers (``docs/audit.md``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.model import Logits
from common.text import TokenizedTexts

__all__ = ["BLANK", "ORDINARY", "POISON", "AuditedTexts", "CanaryNetwork", "blank", "coins", "with_canaries"]

ORDINARY, BLANK, POISON = -1, -2, -3
"""What a row is that is no canary: itself, a row without gradient, one whose gradient is not a number."""

_LENGTH = 2  # tokens of a canary's text, which is padding


@dataclass(frozen=True)
class AuditedTexts:
    """Texts, and what each is to the network."""

    texts: TokenizedTexts
    codes: NDArray[np.int64]
    """Number of a canary from 0, or one of the codes above: ``(texts,)``."""
    canaries: int
    """How many directions there are."""
    norm: float
    """Of a canary's gradient before clipping."""


class CanaryNetwork(nn.Module):
    """A network with two layers that only canaries reach."""

    def __init__(self, network: nn.Module, canaries: int, norm: float, labels: int) -> None:
        """Wrap ``network``, whose output has ``logits`` ``(batch, labels)``; nothing of it is changed."""
        super().__init__()
        self.network = network
        self.table = nn.Embedding(canaries + 1, labels, padding_idx=canaries)
        self.line = nn.Linear(canaries, labels, bias=False)
        nn.init.zeros_(self.table.weight)
        nn.init.zeros_(self.line.weight)
        push = torch.full((labels,), 1 / labels)  # gradient of cross-entropy at equal logits, label 0
        push[0] -= 1
        self._scale = norm / (float(push.norm()) * math.sqrt(2))
        self._direction = push / push.norm() / math.sqrt(2)

    def forward(self, canary: torch.Tensor, **inputs: torch.Tensor) -> Logits:
        """Logits of the rows; ``canary`` ``(batch,)`` says what each is (:class:`AuditedTexts`)."""
        logits = self.network(**inputs).logits
        last = self.table.num_embeddings - 1
        which = torch.where(canary >= 0, canary, torch.full_like(canary, last))
        one_hot = nn.functional.one_hot(which, last + 1)[:, :last].to(logits.dtype)
        scale = torch.where(canary == POISON, float("nan"), self._scale)[:, None]
        pushed = scale * (self.table(which) + self.line(one_hot))
        kept = torch.where((canary == ORDINARY)[:, None], logits, torch.zeros_like(logits))
        return Logits(kept + (pushed - pushed.detach()))

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """The canaries' layers, by name."""
        (table,), (line,) = self.table.parameters(), self.line.parameters()
        return {"canary table": table, "canary line": line}

    def projections(self, table: torch.Tensor, line: torch.Tensor) -> NDArray[np.float64]:
        """Length of a sum along each canary's direction, ``(canaries,)``, from its parts in the two layers."""
        along: NDArray[np.float64] = ((table[:-1] + line.T).double() @ self._direction.double()).cpu().numpy()
        return along


def coins(canaries: int, seed: int, chance: float = 0.5) -> NDArray[np.bool_]:
    """Which canaries go in: each by its own coin, from the registered seed."""
    return np.random.Generator(np.random.PCG64(seed)).random(canaries) < chance


def with_canaries(texts: TokenizedTexts, included: NDArray[np.bool_], norm: float) -> AuditedTexts:
    """The texts as they are, and one more unit of one row for each canary that goes in."""
    which = np.flatnonzero(included)
    added = np.full(_LENGTH * len(which), texts.pad_token, dtype=texts.tokens.dtype)
    persons = texts.persons
    if persons is not None:
        persons = np.concatenate([persons, texts.units + np.arange(len(which))])
    extended = TokenizedTexts(
        np.concatenate([texts.tokens, added]),
        np.concatenate([texts.offsets, texts.offsets[-1] + _LENGTH * np.arange(1, len(which) + 1)]),
        np.concatenate([texts.labels, np.zeros(len(which), np.int64)]),
        texts.pad_token,
        persons,
    )
    codes = np.concatenate([np.full(len(texts), ORDINARY), which])
    return AuditedTexts(extended, codes, len(included), norm)


def blank(units: int, pad_token: int, persons: bool = False) -> AuditedTexts:
    """So many units of one short row each, none of which has a gradient: what is released then is noise alone."""
    tokens = np.full(_LENGTH * units, pad_token, dtype=np.int32)
    texts = TokenizedTexts(
        tokens,
        _LENGTH * np.arange(units + 1),
        np.zeros(units, np.int64),
        pad_token,
        np.arange(units) if persons else None,
    )
    return AuditedTexts(texts, np.full(units, BLANK), 1, 1.0)
