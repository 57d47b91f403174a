"""Words keep their tags through tokenization, and masks depend on a text alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.text import batches, load_tokenizer, tokenize, tokenize_words
from common.token_targets import MASKED_SHARE, UNLABELLED, Masking, first_tokens
from tests.tiny import tiny_rows, tiny_sentences, write_tiny_base

LABELS = ("O", "B-THING", "I-THING")
SENTENCES = tiny_sentences(12, seed=3)
TEXTS = [" ".join(words) for words, _, _ in SENTENCES]
TAGS = [tuple(map(LABELS.index, tags)) for _, tags, _ in SENTENCES]


class TestFirstTokens:
    """Which token begins which word."""

    def test_word_pieces_and_punctuation_belong_to_their_word(self) -> None:
        # "un" "##common" "don" "'" "t" ".": six tokens of three words, between [CLS] and [SEP].
        spans = [(0, 0), (0, 2), (2, 8), (9, 12), (12, 13), (13, 14), (15, 16), (0, 0)]
        assert first_tokens("uncommon don't .", spans) == ([1, 3, 6], [0, 1, 2])

    def test_a_space_that_a_token_begins_with_is_no_word(self) -> None:
        assert first_tokens("a bc d", [(0, 1), (1, 4), (4, 6)]) == ([0, 1, 2], [0, 1, 2])

    def test_a_word_without_a_token_and_one_that_was_cut_off_are_missing(self) -> None:
        assert first_tokens("a b c d", [(0, 1), (4, 5)]) == ([0, 1], [0, 2])

    @settings(max_examples=40)
    @given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=8))
    def test_every_word_is_found_however_it_is_cut(self, pieces: list[list[int]]) -> None:
        words = ["x" * sum(lengths) for lengths in pieces]
        spans, wanted, start = [], [], 0
        for lengths in pieces:
            wanted.append(len(spans))
            for length in lengths:
                spans.append((start, start + length))
                start += length
            start += 1
        assert first_tokens(" ".join(words), spans) == (wanted, list(range(len(words))))


class TestWords:
    """Tags in padded batches."""

    def test_every_label_stands_at_the_first_token_of_its_word(self, tiny_base: Path) -> None:
        tokenizer = load_tokenizer(tiny_base)
        texts = tokenize_words(tokenizer, TEXTS, TAGS, 32)
        for batch in batches(texts, np.arange(len(texts)), 5):
            for row, index in enumerate(batch.indexes):
                asked = batch.labels[row] != UNLABELLED
                assert batch.labels[row][asked].tolist() == list(TAGS[index])
                ids = batch.inputs["input_ids"][row][batch.inputs["positions"][row][asked]]
                assert tokenizer.convert_ids_to_tokens(ids.tolist()) == TEXTS[index].split(" ")

    @pytest.mark.parametrize("removed", [0, 5, 11])
    def test_p10_removing_a_text_changes_no_others_tags(self, tiny_base: Path, removed: int) -> None:
        tokenizer = load_tokenizer(tiny_base)
        kept = [index for index in range(12) if index != removed]
        whole = tokenize_words(tokenizer, TEXTS, TAGS, 32)
        fewer = tokenize_words(tokenizer, [TEXTS[i] for i in kept], [TAGS[i] for i in kept], 32)
        assert whole.tags is not None
        assert fewer.tags is not None
        for place, index in enumerate(kept):
            one, other = fewer.tags.text(place), whole.tags.text(index)
            assert one.positions.tolist() == other.positions.tolist()
            assert one.labels.tolist() == other.labels.tolist()

    def test_words_beyond_the_longest_input_have_no_label(self, tiny_base: Path) -> None:
        texts = tokenize_words(load_tokenizer(tiny_base), ["good " * 9 + "bad"], [[0] * 9 + [1]], 8)
        assert texts.tags is not None
        assert texts.tags.words_by_text() == [[0, 1, 2, 3, 4, 5]]


class TestMasking:
    """Which tokens are hidden."""

    @pytest.fixture(scope="class")
    def masking(self, tmp_path_factory: pytest.TempPathFactory) -> Masking:
        base = write_tiny_base(tmp_path_factory.mktemp("masking") / "base")
        return Masking.of(load_tokenizer(base), seed=1)

    @settings(max_examples=100)
    @given(st.lists(st.integers(0, 27), min_size=1, max_size=30), st.integers(0, 5))
    def test_what_is_hidden_was_there_and_nothing_else_changes(
        self, masking: Masking, tokens: list[int], number: int
    ) -> None:
        given_ = np.array(tokens, np.int32)
        hidden, targets = replace(masking, round=number).hide(given_)
        eligible = [token for token in tokens if token not in masking.special]
        count = max(1, round(MASKED_SHARE * len(eligible))) if eligible else 0
        assert len(targets.positions) == len(set(targets.positions.tolist())) == count
        assert targets.labels.tolist() == given_[targets.positions].tolist()
        untouched = np.setdiff1d(np.arange(len(tokens)), targets.positions)
        assert hidden[untouched].tolist() == given_[untouched].tolist()
        assert not masking.special & set(targets.labels.tolist())
        allowed = masking.special - {masking.mask_token}
        assert not allowed & set(hidden[targets.positions].tolist())

    def test_shares_are_those_of_bert(self, masking: Masking) -> None:
        """Of 6,000 hidden tokens 80 % masked, 10 % kept, 10 % replaced; off by four deviations once in 15,000."""
        generator = np.random.default_rng(2)
        fates = {"masked": 0, "kept": 0, "replaced": 0}
        for _ in range(2000):
            tokens = generator.integers(5, 28, size=20).astype(np.int32)
            hidden, targets = masking.hide(tokens)
            for position in targets.positions:
                if hidden[position] == masking.mask_token:
                    fates["masked"] += 1
                else:
                    fates["kept" if hidden[position] == tokens[position] else "replaced"] += 1
        total = sum(fates.values())
        assert total == 6000
        # One in 23 of the replacements is by chance the token itself.
        for fate, share in (("masked", 0.8), ("kept", 0.1 + 0.1 / 23), ("replaced", 0.1 - 0.1 / 23)):
            assert abs(fates[fate] / total - share) < 4 * (share * (1 - share) / total) ** 0.5

    def test_p10_a_mask_depends_on_the_text_alone(self, tiny_base: Path) -> None:
        tokenizer = load_tokenizer(tiny_base)
        texts = [text for text, _, _ in tiny_rows(12, seed=2)]

        def hidden(some: list[str]) -> dict[str, list[int]]:
            tokens = replace(tokenize(tokenizer, some, [0] * len(some), 32), masking=Masking.of(tokenizer, 7))
            return {
                some[index]: batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row] == 1].tolist()
                for batch in batches(tokens, np.arange(len(some)), 5)
                for row, index in enumerate(batch.indexes)
            }

        whole = hidden(texts)
        fewer = hidden(texts[3:][::-1])
        assert fewer == {text: whole[text] for text in texts[3:]}

    def test_a_tokenizer_without_a_mask_is_refused(self, tiny_base: Path) -> None:
        tokenizer = load_tokenizer(tiny_base)
        tokenizer.mask_token = None
        with pytest.raises(BadInput, match="no mask token"):
            Masking.of(tokenizer, 1)
