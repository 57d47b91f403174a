"""Duplicates are all found; near-duplicates agree with comparing every pair."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from deploy.data_check.duplicates import (
    LEAST_SIMILARITY,
    duplicate_groups,
    near_duplicate_groups,
    shingles,
    similarity,
)

WORDS = [f"word{n}" for n in range(200)]


def made(rows: int, seed: int) -> list[str]:
    """Texts of 30 words; every fifth is an earlier one with one word changed at its end or start."""
    chooser, texts = random.Random(seed), list[str]()
    for row in range(rows):
        if row % 5 == 4:
            words = chooser.choice(texts).split()
            words[chooser.choice([0, 15, -1])] = chooser.choice(WORDS)
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(chooser.choice(WORDS) for _ in range(30)))
    return texts


def by_every_pair(texts: list[str]) -> list[list[int]]:
    sets = [shingles(text) for text in texts]
    group = list(range(len(texts)))
    for one, other in combinations(range(len(texts)), 2):
        if texts[one] != texts[other] and similarity(sets[one], sets[other]) >= LEAST_SIMILARITY:
            old, new = max(group[one], group[other]), min(group[one], group[other])
            group = [new if each == old else each for each in group]
    return [rows for name in sorted(set(group)) if len(rows := [r for r, g in enumerate(group) if g == name]) > 1]


def test_near_duplicates_are_those_of_every_pair() -> None:
    for seed in range(3):
        texts = made(120, seed)
        found = near_duplicate_groups(texts)
        assert found == by_every_pair(texts)
        assert len(found) > 3


def test_similarity_is_jaccards_of_runs_of_three_words() -> None:
    one, other = "a b c d e", "a b c d f"
    assert similarity(shingles(one), shingles(other)) == 2 / 4
    assert shingles("A  b C") == shingles("a b c")
    assert len(shingles("one two")) == 1


@given(st.lists(st.sampled_from(["a b c", "A  B c", "a b d", "x", ""]), max_size=12))
def test_exact_duplicates_ignore_case_and_blanks(texts: list[str]) -> None:
    groups = duplicate_groups(texts)
    plain = [" ".join(text.lower().split()) for text in texts]
    assert sorted(row for group in groups for row in group) == [
        row for row, text in enumerate(plain) if plain.count(text) > 1
    ]
    assert all(len({plain[row] for row in group}) == 1 for group in groups)


def test_a_bucket_of_thousands_stays_quick_and_whole() -> None:
    texts = [f"{' '.join(WORDS[:60])} {n}" for n in range(1500)]
    (group,) = near_duplicate_groups(texts)
    assert group == list(range(1500))
