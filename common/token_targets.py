"""What is to be said of single tokens: tags of words, or the tokens that a mask hides.

Each is a function of one text alone (PRIVACY P10), and so is the loss that comes of it (P11): a text counts by the
mean over its own labelled tokens, however many they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MASKED_SHARE", "UNLABELLED", "Masking", "TextTargets", "WordTags", "first_tokens"]

UNLABELLED = -100
"""Stands in a padded batch where there is no label; the number that torch's cross-entropy ignores."""

MASKED_SHARE = 0.15
"""Of a text's tokens that are to be guessed (Devlin et al. 2019, section 3.1); at least one."""

_REPLACED, _KEPT = 0.1, 0.1  # of the chosen ones: another token at random, or the token itself (same section)


@dataclass(frozen=True)
class TextTargets:
    """What one text is asked for."""

    positions: NDArray[np.int64]
    """Tokens with a label, in their order, ``(labelled,)``."""
    labels: NDArray[np.int64]
    """``(labelled,)``."""


@dataclass(frozen=True)
class WordTags:
    """Tags of the words of many texts, each at its word's first token."""

    positions: NDArray[np.int64]
    """Of the first tokens, one text after the other, counted from each text's start: ``(labelled,)``."""
    words: NDArray[np.int64]
    """Which word of its text it is: ``(labelled,)``. A word that was cut off, or that has no token, is missing."""
    labels: NDArray[np.int64]
    """``(labelled,)``."""
    offsets: NDArray[np.int64]
    """Text ``i`` has ``offsets[i]`` to ``offsets[i + 1]``: ``(texts + 1,)``."""

    @classmethod
    def of(cls, first: Sequence[tuple[Sequence[int], Sequence[int]]], tags: Sequence[Sequence[int]]) -> WordTags:
        """From :func:`first_tokens` of each text and the tags of all its words."""
        labels = [own[word] for (_, words), own in zip(first, tags, strict=True) for word in words]
        return cls(
            np.array([position for positions, _ in first for position in positions], np.int64),
            np.array([word for _, words in first for word in words], np.int64),
            np.array(labels, np.int64),
            np.concatenate([np.zeros(1, np.int64), np.cumsum([len(words) for _, words in first], dtype=np.int64)]),
        )

    def text(self, index: int) -> TextTargets:
        """What text ``index`` is asked for."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        return TextTargets(self.positions[part], self.labels[part])

    def words_by_text(self) -> list[list[int]]:
        """Which words of each text have a token."""
        return (
            [part.tolist() for part in np.split(self.words, self.offsets[1:-1])] if len(self.offsets) > 1 else []
        )

    def rows(self, indexes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of these texts' words in the flat arrays, one text after the other."""
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in indexes]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


@dataclass(frozen=True)
class Masking:
    """Which tokens of a text are hidden; decided by the text's own tokens, the seed and the round."""

    mask_token: int
    vocabulary: int
    special: frozenset[int]
    """Tokens that are never hidden, and never put in place of another."""
    seed: int
    round: int = 0
    """Another round hides other tokens of the same text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, seed: int) -> Masking:
        """The tokenizer's own mask; raises :class:`BadInput` where it has none."""
        if tokenizer.mask_token_id is None:
            raise BadInput("model.base: its tokenizer has no mask token, which masked-language-modeling needs")
        special = frozenset(map(int, tokenizer.all_special_ids))
        return cls(int(tokenizer.mask_token_id), len(tokenizer), special, seed)

    def hide(self, tokens: NDArray[np.int32]) -> tuple[NDArray[np.int32], TextTargets]:
        """The text with some of its tokens hidden, and what was there."""
        eligible = np.flatnonzero(~np.isin(tokens, list(self.special)))
        if not len(eligible):
            return tokens, TextTargets(np.empty(0, np.int64), np.empty(0, np.int64))
        content = hashlib.sha256(f"{self.seed}\n{self.round}\n".encode() + tokens.astype("<i4").tobytes())
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(content.digest(), "big")))
        count = max(1, round(MASKED_SHARE * len(eligible)))
        positions = np.sort(generator.choice(eligible, count, replace=False))
        hidden, fate = tokens.copy(), generator.random(count)
        replaced = fate < _REPLACED
        hidden[positions[fate >= _REPLACED + _KEPT]] = self.mask_token
        hidden[positions[replaced]] = self._other_tokens(generator, int(replaced.sum()))
        return hidden, TextTargets(positions, tokens[positions].astype(np.int64))

    def _other_tokens(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        found = generator.integers(self.vocabulary, size=count)
        while (bad := np.isin(found, list(self.special))).any():
            found[bad] = generator.integers(self.vocabulary, size=int(bad.sum()))
        return found


def first_tokens(text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Where each word of ``text`` begins among its tokens: positions of first tokens, and their words.

    Args:
        text: words separated by single spaces.
        spans: characters of each token, start and end; equal for special tokens.
    """
    word_at = np.cumsum([character == " " for character in text])
    positions: list[int] = []
    words: list[int] = []
    for position, (start, end) in enumerate(spans):
        while start < end and text[start] == " ":  # byte-level tokenizers count the space before a word to it
            start += 1
        if start < end and (not words or words[-1] < word_at[start]):
            positions.append(position)
            words.append(int(word_at[start]))
    return positions, words
