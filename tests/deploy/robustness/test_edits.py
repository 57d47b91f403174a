"""Edits change what they say and nothing else, and the same chance gives the same edit."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.robustness import edits
from deploy.robustness.words import FUNCTION_WORDS, SYNONYMS

EVERY = [
    edits.typo, edits.two_typos, edits.upper_case, edits.lower_case, edits.no_punctuation, edits.dropped_word,
    edits.swapped_synonym, edits.negated, edits.appended(["One more."]),
]  # fmt: skip
SENTENCES = st.lists(
    st.sampled_from(["The", "film", "is", "Good", "not", "and", "very", "dull", ",", "isn't", "Ärger", "42", "!"]),
    min_size=1, max_size=12,
).map(" ".join)  # fmt: skip


@given(st.one_of(SENTENCES, st.text(max_size=60)), st.integers(0, 5))
def test_every_edit_gives_another_text_or_none_and_the_same_for_the_same_chance(text: str, seed: int) -> None:
    for edit in EVERY:
        once, again = edit(text, random.Random(seed)), edit(text, random.Random(seed))
        assert once == again
        assert once is None or (once != text and once.strip())


@given(SENTENCES, st.integers(0, 5))
def test_a_typo_swaps_two_neighbours_and_keeps_the_first_letter(text: str, seed: int) -> None:
    edited = edits.typo(text, random.Random(seed))
    if edited is None:
        assert not re.search(r"[^\W\d_]{4}", text)
        return
    assert Counter(edited) == Counter(text)
    (first, second) = [place for place, (a, b) in enumerate(zip(text, edited, strict=True)) if a != b]
    assert second == first + 1
    assert text[first - 1].isalpha()


@given(SENTENCES, st.integers(0, 5))
def test_word_drop_takes_one_function_word(text: str, seed: int) -> None:
    edited = edits.dropped_word(text, random.Random(seed))
    if edited is not None:
        (gone,) = (Counter(text.split()) - Counter(edited.split())).elements()
        assert gone.lower() in FUNCTION_WORDS


@given(SENTENCES, st.integers(0, 5))
def test_a_synonym_stands_in_the_same_place_with_the_same_capital(text: str, seed: int) -> None:
    edited = edits.swapped_synonym(text, random.Random(seed))
    if edited is not None:
        pairs = zip(text.split(), edited.split(), strict=True)
        ((old, new),) = [(a, b) for a, b in pairs if a != b]
        assert new.lower() in SYNONYMS[old.lower()]
        assert old[0].isupper() == new[0].isupper()


def test_synonyms_go_both_ways() -> None:
    assert all(word in SYNONYMS[other] for word, others in SYNONYMS.items() for other in others)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The film is good.", "The film is not good."),
        ("IT WAS GOOD", "IT WAS NOT GOOD"),
        ("The film isn't good and is long.", None),
        ("It is never dull.", None),
        ("It is good and it was short.", None),
        ("A good film.", None),
    ],
)
def test_only_a_plain_clause_is_negated(text: str, wanted: str | None) -> None:
    assert edits.negated(text, random.Random(0)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Good, I say!", "Good I say"), ("it's well-made", None), ("...", None), ("(so)", "so")],
)
def test_punctuation_inside_words_stays(text: str, wanted: str | None) -> None:
    assert edits.no_punctuation(text, random.Random(0)) == wanted


def test_a_sentence_is_added_after_a_stop() -> None:
    assert edits.appended(["More."])("Good", random.Random(0)) == "Good. More."
    assert edits.appended(["More."])("Good! ", random.Random(0)) == "Good! More."
