"""Texts that stand there twice, or nearly.

Near-duplicates: sets of three-word shingles with a Jaccard similarity of at least :data:`LEAST_SIMILARITY`. Pairs
to look at come from MinHash in bands (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3); each
is then measured exactly, so what is reported is right. A pair at 0.8 is missed with chance (1 - 0.8^4)^16, which
is below 0.03 %.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SIMILARITY", "duplicate_groups", "near_duplicate_groups", "shingles", "similarity"]

LEAST_SIMILARITY = 0.8
_SHINGLE = 3
_BANDS, _ROWS = 16, 4
_PRIME = np.uint64(2**31 - 1)
_LARGEST_BUCKET = 50
"""Of a larger bucket each text is compared with so many neighbours only: it is one group anyway."""


def duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts that are equal but for case and blanks, groups of two or more."""
    seen: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        seen[_plain(text)].append(row)
    return [rows for rows in seen.values() if len(rows) > 1]


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts linked by near-duplication, exact duplicates counted once (the first stands for them)."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(_plain(text), row)
    rows = [row for row in first.values() if len(texts[row].split()) >= _SHINGLE]
    sets = {row: shingles(texts[row]) for row in rows}
    linked = {row: row for row in rows}

    def root(row: int) -> int:
        while linked[row] != row:
            linked[row] = linked[linked[row]]
            row = linked[row]
        return row

    for one, other in _candidates(sets):
        if root(one) != root(other) and similarity(sets[one], sets[other]) >= LEAST_SIMILARITY:
            linked[max(root(one), root(other))] = min(root(one), root(other))
    groups: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        groups[root(row)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def shingles(text: str) -> frozenset[int]:
    """Numbers below 2^31 - 1 that stand for the text's runs of three words."""
    words = _plain(text).split()
    runs = {" ".join(words[start : start + _SHINGLE]) for start in range(max(1, len(words) - _SHINGLE + 1))}
    return frozenset(
        int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") % int(_PRIME) for run in runs
    )


def similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """Jaccard similarity: shared shingles over all."""
    return len(one & other) / len(one | other)


def _candidates(sets: dict[int, frozenset[int]]) -> list[tuple[int, int]]:
    """Pairs that fall into one bucket of any band."""
    chooser = np.random.default_rng(0)
    factors = chooser.integers(1, int(_PRIME), size=_BANDS * _ROWS, dtype=np.uint64)
    offsets = chooser.integers(0, int(_PRIME), size=_BANDS * _ROWS, dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for row, found in sets.items():
        signature = _signature(found, factors, offsets)
        for band in range(_BANDS):
            buckets[band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()].append(row)
    pairs: set[tuple[int, int]] = set()
    for rows in buckets.values():
        for start in range(0, len(rows) - 1, _LARGEST_BUCKET - 1):
            pairs.update(combinations(rows[start : start + _LARGEST_BUCKET], 2))
    return sorted(pairs)


def _signature(
    found: frozenset[int], factors: NDArray[np.uint64], offsets: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    numbers = np.fromiter(found, dtype=np.uint64, count=len(found))
    # Below 2^31 each, so that the product fits in 64 bits.
    hashed = (numbers[None, :] * factors[:, None] + offsets[:, None]) % _PRIME
    smallest: NDArray[np.uint64] = hashed.min(axis=1)
    return smallest


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
