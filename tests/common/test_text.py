"""Texts become tokens one by one; batches pad, sort and never mix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput, HanseError
from common.text import TokenizedTexts, batches, load_tokenizer, tokenize, unit_batches
from tests.tiny import tiny_rows

ROWS = tiny_rows(20, seed=9)
TEXTS = [text for text, _, _ in ROWS]
LABELS = [int(label == "positive") for _, label, _ in ROWS]


def tokens_of(texts: TokenizedTexts, index: int) -> list[int]:
    return texts.tokens[texts.offsets[index] : texts.offsets[index + 1]].tolist()


def ragged(lengths: list[int]) -> TokenizedTexts:
    """Texts of the given lengths, every token another number."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenizedTexts(
        np.arange(1, int(offsets[-1]) + 1, dtype=np.int32), offsets, np.arange(len(lengths), dtype=np.int64), 0
    )


class TestTokenize:
    """From texts to ragged token ids."""

    def test_tokens_are_the_tokenizers_own(self, tiny_base: Path) -> None:
        tokenizer = load_tokenizer(tiny_base)
        texts = tokenize(tokenizer, TEXTS, LABELS, 16)
        assert len(texts) == 20
        assert texts.labels.tolist() == LABELS
        for index, text in enumerate(TEXTS):
            assert tokens_of(texts, index) == tokenizer(text)["input_ids"]

    def test_long_texts_are_cut_with_their_special_tokens_kept(self, tiny_base: Path) -> None:
        texts = tokenize(load_tokenizer(tiny_base), ["good " * 100], [1], 8)
        assert tokens_of(texts, 0) == [2, 5, 5, 5, 5, 5, 5, 3]

    def test_the_tokenizers_own_limit_binds_too(self, tiny_base: Path) -> None:
        texts = tokenize(load_tokenizer(tiny_base), ["good " * 100], [1], 5000)
        assert texts.lengths.tolist() == [64]

    def test_no_texts(self, tiny_base: Path) -> None:
        texts = tokenize(load_tokenizer(tiny_base), [], [], 16)
        assert len(texts) == 0
        assert list(batches(texts, np.empty(0, np.int64), 4)) == []

    @pytest.mark.parametrize("removed", [0, 7, 19])
    def test_p10_removing_a_text_changes_no_other_texts_tokens(self, tiny_base: Path, removed: int) -> None:
        tokenizer = load_tokenizer(tiny_base)
        longest = "film " * 40
        everything = [*TEXTS[:removed], longest, *TEXTS[removed + 1 :]]
        whole = tokenize(tokenizer, everything, LABELS, 32)
        kept = [index for index in range(20) if index != removed]
        fewer = tokenize(tokenizer, [everything[i] for i in kept], [LABELS[i] for i in kept], 32)
        for place, index in enumerate(kept):
            assert tokens_of(fewer, place) == tokens_of(whole, index)

    def test_persons_are_numbered_as_they_come(self, tiny_base: Path) -> None:
        texts = tokenize(load_tokenizer(tiny_base), TEXTS[:5], LABELS[:5], 16, ["b", "a", "b", "c", "a"])
        assert texts.persons is not None
        assert texts.persons.tolist() == [0, 1, 0, 2, 1]
        assert (len(texts), texts.units) == (5, 3)
        plain = tokenize(load_tokenizer(tiny_base), TEXTS[:5], LABELS[:5], 16)
        assert (plain.persons, plain.units) == (None, 5)
        assert tokenize(load_tokenizer(tiny_base), [], [], 16, []).units == 0

    @pytest.mark.parametrize("groups", [["a"], ["a", "b", "c"], ["a", ""], []])
    def test_p02_a_text_without_a_person_is_never_taken_for_a_unit(
        self, tiny_base: Path, groups: list[str]
    ) -> None:
        with pytest.raises(HanseError, match="every text needs the id of its person"):
            tokenize(load_tokenizer(tiny_base), TEXTS[:2], LABELS[:2], 16, groups)

    def test_a_folder_without_tokenizer_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no tokenizer can be loaded"):
            load_tokenizer(tmp_path)


class TestBatches:
    """From ragged token ids to padded tensors."""

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 7), st.randoms())
    def test_p10_every_text_comes_once_with_its_own_tokens_and_label(
        self, lengths: list[int], size: int, order: object
    ) -> None:
        """Whatever else is in the batch, a row is the text's tokens, then padding that the mask hides."""
        texts = ragged(lengths)
        indexes = np.arange(len(lengths))
        order.shuffle(indexes)  # type: ignore[attr-defined]  # hypothesis' random
        seen: list[int] = []
        for batch in batches(texts, indexes, size):
            assert 1 <= len(batch.indexes) <= size
            ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
            assert ids.shape == mask.shape == (len(batch.indexes), max(lengths[i] for i in batch.indexes))
            assert batch.labels.tolist() == batch.indexes.tolist()
            for row, index in enumerate(batch.indexes):
                length = lengths[index]
                assert ids[row, :length].tolist() == tokens_of(texts, index)
                assert ids[row, length:].tolist() == [texts.pad_token] * (ids.shape[1] - length)
                assert mask[row].tolist() == [1] * length + [0] * (ids.shape[1] - length)
            seen.extend(batch.indexes.tolist())
        assert sorted(seen) == list(range(len(lengths)))

    def test_texts_of_similar_length_come_together(self) -> None:
        texts = ragged([9, 1, 8, 2])
        assert [batch.indexes.tolist() for batch in batches(texts, np.arange(4), 2)] == [[1, 3], [2, 0]]

    def test_a_text_drawn_twice_comes_twice(self) -> None:
        batch = next(batches(ragged([2, 3]), np.array([1, 1]), 4))
        assert batch.indexes.tolist() == [1, 1]


def of_persons(lengths: list[int], persons: list[int]) -> TokenizedTexts:
    """:func:`ragged` texts, of persons numbered as they come."""
    numbers: dict[int, int] = {}
    numbered = [numbers.setdefault(person, len(numbers)) for person in persons]
    return dataclasses.replace(ragged(lengths), persons=np.array(numbered, dtype=np.int64))


rows_of_persons = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), max_size=30)


class TestUnitBatches:
    """From units that were drawn to padded tensors of whole units."""

    @settings(deadline=None)
    @given(rows_of_persons, st.integers(1, 9), st.data())
    def test_p10_every_row_of_a_drawn_person_comes_once_and_no_other(
        self, rows: list[tuple[int, int]], size: int, data: st.DataObject
    ) -> None:
        """A person's rows are in one batch, and a batch is larger than asked only for one person's sake."""
        texts = of_persons([length for length, _ in rows], [person for _, person in rows])
        assert texts.persons is not None
        drawn = np.array([unit for unit in range(texts.units) if data.draw(st.booleans())], dtype=np.int64)
        seen: list[int] = []
        met: set[int] = set()
        for batch in unit_batches(texts, drawn, size):
            here = set(texts.persons[batch.indexes].tolist())
            assert not here & met
            met |= here
            assert len(batch.indexes) <= size or len(here) == 1
            for row, index in enumerate(batch.indexes):
                length = int(batch.inputs["attention_mask"][row].sum())
                assert batch.inputs["input_ids"][row, :length].tolist() == tokens_of(texts, index)
            seen.extend(batch.indexes.tolist())
        assert sorted(seen) == [row for row in range(len(rows)) if texts.persons[row] in drawn]
        assert sorted(seen) == sorted(texts.of_units(drawn).tolist())

    def test_persons_come_by_their_longest_text(self) -> None:
        texts = of_persons([9, 1, 2, 3, 8, 4], [0, 0, 1, 1, 2, 3])
        found = [batch.indexes.tolist() for batch in unit_batches(texts, np.arange(4), 3)]
        assert found == [[2, 3, 5], [4, 0, 1]]

    def test_without_persons_they_are_the_batches_of_texts(self) -> None:
        texts = ragged([9, 1, 8, 2])
        found = [batch.indexes.tolist() for batch in unit_batches(texts, np.array([0, 1, 3]), 2)]
        assert found == [[1, 3], [0]]
        assert texts.of_units(np.array([2, 0])).tolist() == [2, 0]
        assert texts.units_among(np.array([2, 0])) is None

    def test_the_persons_of_a_batch_are_numbered_within_it(self) -> None:
        texts = of_persons([1] * 6, [0, 1, 2, 1, 3, 2])
        indexes = texts.of_units(np.array([3, 1, 2]))
        assert indexes.tolist() == [1, 3, 2, 5, 4]
        among = texts.units_among(indexes)
        assert among is not None
        assert among.tolist() == [0, 0, 1, 1, 2]
        assert texts.of_units(np.empty(0, np.int64)).tolist() == []
