"""The embedded default: sentences from four domains, each rated for sentiment by twenty people.

Hutto and Gilbert (2014) publish a mean rating from -4 to 4 for each sentence. Here a sentence is
positive above 0.5 and negative below -0.5; those between are left out. Each domain stands for one
institution of the default study.
"""

from __future__ import annotations

import html
import math
from pathlib import Path

from common.assets import embedded_sentences
from common.errors import BadInput
from common.validation import Row

__all__ = ["EMBEDDED_LABELS", "read_embedded"]

EMBEDDED_LABELS = ("negative", "positive")
LEAST_RATING = 0.5


def read_embedded() -> list[Row]:
    """All embedded sentences with a clear rating, domain by domain.

    Raises:
        BadInput: the sentences are not installed, or a file of them is damaged.

    """
    rows: list[Row] = []
    for domain, path in embedded_sentences().items():
        for text, label in _rated_sentences(path):
            rows.append(Row(len(rows) + 1, text, label, domain))
    return rows


def _rated_sentences(path: Path) -> list[tuple[str, str]]:
    """Text and label of each sentence of one file that is rated clearly."""
    sentences: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path) from error
    for line in lines:
        if not line.strip():
            continue
        rating, text = _parse(line, path)
        if abs(rating) > LEAST_RATING:
            sentences.append((text, EMBEDDED_LABELS[rating > 0]))
    if not sentences:
        raise _damaged(path)
    return sentences


def _parse(line: str, path: Path) -> tuple[float, str]:
    """Mean rating and text of one line: identifier, rating and text between tabulators."""
    try:
        _, written, text = line.rstrip("\r").split("\t", 2)
        rating = float(written)
    except ValueError as error:
        raise _damaged(path) from error
    if not math.isfinite(rating):
        raise _damaged(path)
    once = html.unescape(text)
    return rating, html.unescape(once).strip()  # a few sentences were escaped twice


def _damaged(path: Path) -> BadInput:
    return BadInput(f"{path.name}: damaged in the cache; remove {path.parent} and run: hanse assets fetch")
