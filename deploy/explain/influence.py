"""Which words move the model most over many texts: attributions gathered by word and predicted label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.explain.attributions import Attributions

__all__ = ["InfluentialToken", "influential_tokens"]

_CONTINUES = "##"


@dataclass(frozen=True)
class InfluentialToken:
    """A word and what it does for a label on the whole."""

    word: str
    label: str
    """The predicted label of the texts that were counted."""
    occurrences: int
    mean: float
    """Mean attribution to that label's margin, in logits; below zero it speaks against the label."""


def influential_tokens(
    explained: Sequence[Attributions], labels: Sequence[str], special: Iterable[str], least: int, most: int
) -> list[InfluentialToken]:
    """The words with the largest mean attribution, for each label at most ``most``, the largest first.

    Args:
        explained: attributions of many texts.
        labels: names of the labels.
        special: tokens that are no words.
        least: occurrences that a word must have.
        most: words of a label.
    """
    left_out = set(special)
    seen: dict[tuple[int, str], list[float]] = defaultdict(list)
    for each in explained:
        for word, value in whole_words(each, left_out):
            seen[each.label, word].append(value)
    rows = [
        InfluentialToken(word, labels[label], len(values), sum(values) / len(values))
        for (label, word), values in seen.items()
        if len(values) >= least
    ]
    rows.sort(key=lambda row: (row.label, -abs(row.mean), row.word))
    kept: list[InfluentialToken] = []
    for label in sorted(set(labels)):
        kept += [row for row in rows if row.label == label][:most]
    return kept


def whole_words(each: Attributions, left_out: set[str]) -> list[tuple[str, float]]:
    """Words of a text in lower case with the sum of their pieces' attributions; special tokens left out."""
    words: list[tuple[str, float]] = []
    for token, value in zip(each.tokens, each.values, strict=True):
        if token in left_out:
            continue
        starts = not token.startswith(_CONTINUES)
        piece = token.removeprefix(_CONTINUES).lstrip("Ġ▁").lower()
        if starts or not words:
            words.append((piece, value))
        else:
            words[-1] = (words[-1][0] + piece, words[-1][1] + value)
    return words
