"""Sentences with tags: from CoNLL files, from lists in JSONL, and what is refused of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.examples import Columns, Dataset, fingerprint
from common.sources import load_source
from common.words import WordFault, words_and_tags, words_of

LABELS = ("O", "B-PER", "I-PER")
KIND = "token-classification"

word = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)

sentence = st.lists(st.tuples(word, st.sampled_from(LABELS)), min_size=1, max_size=5)


def loaded(source: Path, partition: str = "") -> Dataset:
    return load_source(str(source), LABELS, Columns("tokens", "tags", partition), KIND)[0]


def written(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / f"{name}.conll").write_text(content, encoding="utf-8")
    return folder


class TestConll:
    """A word and its tag on each line."""

    def test_sections_of_a_folder_are_the_institutions(self, tmp_path: Path) -> None:
        folder = written(tmp_path, a="Ann\tB-PER\nLee\tI-PER\nran\tO\n\nok\tO\n", b="Bo\tB-PER\n")
        found = loaded(folder, "file").examples
        assert [(e.text, e.tags, e.domain) for e in found] == [
            ("Ann Lee ran", (1, 2, 0), "a"), ("ok", (0,), "a"), ("Bo", (1,), "b")
        ]  # fmt: skip

    def test_a_train_file_has_its_test_file(self, tmp_path: Path) -> None:
        found = loaded(written(tmp_path, train="a\tO\n", test="b\tO\n"))
        assert ([e.text for e in found.examples], [e.text for e in found.test]) == (["a"], ["b"])

    def test_four_columns_of_conll_2003_and_its_document_lines(self, tmp_path: Path) -> None:
        content = "-DOCSTART- -X- -X- O\n\nAnn NNP B-NP B-PER\nran VBD B-VP O\n\n"
        (found,) = loaded(written(tmp_path, x=content) / "x.conll").examples
        assert (found.text, found.tags) == ("Ann ran", (1, 0))

    def test_a_nameless_word_is_passed_over_and_a_blank_in_a_word_does_not_part_it(self, tmp_path: Path) -> None:
        (found,) = loaded(written(tmp_path, x="\tO\nA b\tB-PER\n \tO\nc\tO\n") / "x.conll").examples
        assert (words_of(found.text), found.tags) == (["A\u00a0b", "c"], (1, 0))

    @pytest.mark.parametrize(
        ("content", "partition", "part"),
        [
            ("Ann\nran\tO\n", "", "line 1: one column where a word and its tag belong"),
            ("Ann\tB-ORG\n", "", '"B-ORG" is none of the labels'),
            ("\n\n", "", "the file is empty"),
            ("Ann\tO\n", "region", 'CoNLL has no column "region"; set data.column = "file"'),
        ],
    )
    def test_what_is_wrong_is_told(self, tmp_path: Path, content: str, partition: str, part: str) -> None:
        with pytest.raises(BadInput) as caught:
            loaded(written(tmp_path, x=content) / "x.conll", partition)
        assert part in str(caught.value)
        assert "Ann" not in str(caught.value)

    def test_texts_with_a_label_are_no_conll(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="CoNLL holds words with tags"):
            load_source(str(written(tmp_path, x="a\tO\n") / "x.conll"), ["no", "yes"])

    @settings(max_examples=40)
    @given(
        st.lists(
            st.lists(st.tuples(word, st.sampled_from(LABELS)), min_size=1, max_size=5), min_size=1, max_size=4
        )
    )
    def test_both_formats_say_the_same(
        self, tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]]
    ) -> None:
        folder = tmp_path_factory.mktemp("both")
        if any(w.startswith("-DOCSTART-") or not w.strip() for row in sentences for w, _ in row):
            return
        blocks = ("".join(f"{w}\t{tag}\n" for w, tag in row) for row in sentences)
        (folder / "x.conll").write_bytes("\n".join(blocks).encode())
        lines = (json.dumps({"tokens": [w for w, _ in row], "tags": [tag for _, tag in row]}) for row in sentences)
        (folder / "x.jsonl").write_bytes("\n".join(lines).encode())
        assert loaded(folder / "x.conll") == loaded(folder / "x.jsonl")


class TestLists:
    """Lists of words and of tags."""

    @pytest.mark.parametrize(
        ("words", "tags", "part"),
        [
            ("Ann ran", "O O", "are not two lists"),
            (["Ann"], None, "are not two lists"),
            ([], [], "0 words and 0 tags"),
            (["Ann", "ran"], ["O"], "2 words and 1 tags"),
            (["Ann ran"], ["O"], "has a space in it"),
            ([""], ["O"], "a word is empty"),
            (["\ud800"], ["O"], "no text in UTF-8"),
            ([1], ["O"], "a word is empty, no text"),
            (["Ann"], ["B-X"], '"B-X" is none of the labels'),
        ],
    )
    def test_what_they_must_be(self, words: object, tags: object, part: str) -> None:
        with pytest.raises(WordFault) as caught:
            words_and_tags(words, tags, lambda tag: 0 if tag == "O" else None)
        assert part in caught.value.what
        assert "Ann" not in caught.value.what

    def test_tags_may_be_positions(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"tokens": ["Ann", "ran"], "tags": [1, 0]}\n', encoding="utf-8")
        (found,) = loaded(tmp_path / "x.jsonl").examples
        assert found.tags == (1, 0)

    def test_csv_has_no_lists(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("tokens,tags\na,O\n", encoding="utf-8")
        with pytest.raises(BadInput, match="CSV has no lists"):
            loaded(tmp_path / "x.csv")

    def test_p04_a_changed_tag_changes_what_the_data_set_says(self, tmp_path: Path) -> None:
        one, other = written(tmp_path, x="a\tO\n", y="a\tB-PER\n") / "x.conll", tmp_path / "y.conll"
        assert fingerprint(loaded(one)) != fingerprint(loaded(other))
        assert loaded(one).examples[0].target != loaded(other).examples[0].target


def test_texts_alone_need_no_label_column(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,region\ngood,north\nbad,south\n", encoding="utf-8")
    kind = "masked-language-modeling"
    found, report = load_source(str(tmp_path / "x.csv"), [], Columns("text", "", "region"), kind)
    assert [(e.text, e.domain) for e in found.examples] == [("good", "north"), ("bad", "south")]
    assert (report.rows, report.class_counts, report.warnings) == (2, {}, ())
