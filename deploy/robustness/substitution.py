"""Gradient-guided word substitution against a classifier it may look into (after HotFlip: Ebrahimi et al. 2018).

To first order, writing word ``w`` for the word at position ``p`` adds ``(E[w] - E[p]) . g[p]`` to the loss, ``g``
being the gradient by the input embeddings. In each round every text that still stands tries its few best
substitutions for real and keeps the one that hurts most. Bounded: at most so many words of a text, words in one
piece of the vocabulary only, each near what it replaces (cosine of input embeddings). The result is a text,
tokenized anew.

A substitution may change what the text says: accuracy under attack is a lower bound of the model's robustness,
good for comparing models, no verdict on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.open_model import OpenModel, Word

__all__ = ["Attack", "AttackedText", "Candidates", "attack"]


@dataclass(frozen=True)
class Attack:
    """How far the attacker may go."""

    words: int = 2
    """Most words replaced in a text."""
    tried: int = 8
    """Substitutions tried for real in each round, of each text."""
    similarity: float = 0.3
    """Least cosine between the input embeddings of a word and its substitute."""


@dataclass(frozen=True)
class AttackedText:
    """What became of one text."""

    row: int
    """Which text it was."""
    text: str = field(repr=False)
    """As the attacker left it."""
    replaced: int
    fooled: bool
    """Whether the answer is now a wrong one; only texts that were answered rightly are attacked."""


class Candidates:
    """Words that may be put in: of letters, at least two, one token each, standing alone as they do in a text."""

    def __init__(self, model: OpenModel) -> None:
        ids = np.arange(len(model.tokenizer))
        written = [model.tokenizer.decode([int(token)]).strip() for token in ids]
        likely = [token for token in ids if len(written[token]) > 1 and written[token].isalpha()]
        again = model.tokenizer([f" {written[t]}" for t in likely], add_special_tokens=False)["input_ids"]
        kept = [token for token, pieces in zip(likely, again, strict=True) if list(pieces) == [token]]
        self.tokens = np.array(kept, dtype=np.int64)
        self.written = [written[token] for token in kept]
        embeddings = model.embeddings.detach().float().cpu().numpy()
        self._all = embeddings
        self.vectors: NDArray[np.float32] = embeddings[self.tokens]
        self._unit = self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    def gains(
        self, words: Sequence[Word], gradient: NDArray[np.float32], similarity: float
    ) -> NDArray[np.float32]:
        """First-order gain in loss of each substitution, ``(words, candidates)``; -inf where it is not allowed."""
        tokens = np.array([word.token for word in words])
        here = self._all[tokens]
        slopes = gradient[[word.position for word in words]]
        gains = slopes @ self.vectors.T - (slopes * here).sum(axis=1, keepdims=True)
        unit = here / np.maximum(np.linalg.norm(here, axis=1, keepdims=True), 1e-12)
        near = unit @ self._unit.T >= similarity
        near &= tokens[:, None] != self.tokens[None, :]
        return np.where(near, gains, -np.inf).astype(np.float32)


def attack(model: OpenModel, texts: Sequence[str], targets: Sequence[int], bounds: Attack) -> list[AttackedText]:
    """Attack each text that is answered rightly; nothing in it is random.

    Returns:
        one entry for each attacked text, in order.
    """
    candidates = Candidates(model)
    right = np.flatnonzero(model.probabilities(texts).argmax(axis=1) == np.asarray(targets)).tolist()
    now = {int(row): texts[row] for row in right}
    replaced = dict.fromkeys(now, 0)
    done: dict[int, frozenset[int]] = {row: frozenset() for row in now}
    standing = list(now)
    fooled: set[int] = set()
    for _ in range(bounds.words):
        variants = _variants(model, candidates, {row: now[row] for row in standing}, targets, (bounds, done))
        best = _worst_for_the_model(model, variants, targets)
        for row, (text, position, is_fooled) in best.items():
            now[row], replaced[row] = text, replaced[row] + 1
            done[row] |= {position}
            if is_fooled:
                fooled.add(row)
        standing = [row for row in best if row not in fooled]
        if not standing:
            break
    return [AttackedText(row, now[row], replaced[row], row in fooled) for row in now]


_Variant = tuple[int, str, int]
"""Row, text, and which word (by order) was replaced."""


def _variants(
    model: OpenModel,
    candidates: Candidates,
    texts: dict[int, str],
    targets: Sequence[int],
    bounds_and_done: tuple[Attack, dict[int, frozenset[int]]],
) -> list[_Variant]:
    """The substitutions with the largest first-order gain of each text."""
    bounds, done = bounds_and_done
    rows = list(texts)
    gradients = model.embedding_gradients([texts[row] for row in rows], [targets[row] for row in rows])
    found: list[_Variant] = []
    for row, gradient in zip(rows, gradients, strict=True):
        left = [(order, word) for order, word in enumerate(model.words(texts[row])) if order not in done[row]]
        orders, words = [order for order, _ in left], [word for _, word in left]
        if not words or not len(candidates.tokens):
            continue
        gains = candidates.gains(words, gradient, bounds.similarity)
        best = np.argsort(-gains, axis=None, kind="stable")[: bounds.tried]
        for which, token in zip(*np.unravel_index(best, gains.shape), strict=True):
            if np.isfinite(gains[which, token]):
                found.append((row, _written(texts[row], words[which], candidates.written[token]), orders[which]))
    return found


def _written(text: str, word: Word, new: str) -> str:
    old = text[word.start : word.end]
    if old.isupper() and len(old) > 1:
        new = new.upper()
    elif old[0].isupper():
        new = new.capitalize()
    return text[: word.start] + new + text[word.end :]


def _worst_for_the_model(
    model: OpenModel, variants: Sequence[_Variant], targets: Sequence[int]
) -> dict[int, tuple[str, int, bool]]:
    """Of each text the variant whose true label is least probable, and whether it fools the model."""
    if not variants:
        return {}
    probabilities = model.probabilities([text for _, text, _ in variants])
    best: dict[int, tuple[float, str, int, bool]] = {}
    for (row, text, order), given in zip(variants, probabilities, strict=True):
        true = float(given[targets[row]])
        if row not in best or true < best[row][0]:
            best[row] = (true, text, order, int(given.argmax()) != targets[row])
    return {row: (text, order, is_fooled) for row, (_, text, order, is_fooled) in best.items()}
