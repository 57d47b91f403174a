"""Texts become tokens one by one; batches pad, sort and never mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.text import TokenizedTexts, batches, load_tokenizer, tokenize
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
