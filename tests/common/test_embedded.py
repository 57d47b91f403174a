"""The embedded sentences: counts as published beside the data, and what happens without them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from common import assets
from common.embedded import EMBEDDED_LABELS, read_embedded
from common.errors import BadInput
from common.sources import fingerprint, load_source


@pytest.mark.embedded
def test_counts_of_the_embedded_sentences() -> None:
    """Counted from the files by rating above 0.5 and below -0.5, independently of this code."""
    dataset, report = load_source("embedded", EMBEDDED_LABELS)
    assert report.rows == len(dataset.examples) == 19_136
    assert Counter((example.domain, dataset.labels[example.label]) for example in dataset.examples) == {
        ("film-reviews", "positive"): 4_982,
        ("film-reviews", "negative"): 5_061,
        ("product-reviews", "positive"): 1_725,
        ("product-reviews", "negative"): 1_218,
        ("editorials", "positive"): 1_100,
        ("editorials", "negative"): 1_688,
        ("tweets", "positive"): 2_300,
        ("tweets", "negative"): 1_062,
    }
    assert fingerprint(dataset) == "b422d0543f4d2a82b2e27b3ea9562df03f7657333247f7441ee3e5f867f560f0"


@pytest.mark.embedded
def test_entities_are_unescaped_and_labels_go_by_name() -> None:
    dataset, _ = load_source("embedded", ("positive", "negative"))
    assert not any(re.search(r"&#?\w+;", example.text) for example in dataset.examples)
    assert dataset.labels[dataset.examples[0].label] == "positive"


def test_other_labels_are_refused() -> None:
    with pytest.raises(BadInput, match=r"the embedded sentences are labelled negative or positive"):
        load_source("embedded", ("neg", "pos"))


def sentences_in(folder: Path, content: bytes) -> None:
    """Install sentences of our own: the same content for each domain."""
    for _, target in assets.SENTENCES.files:
        path = folder / assets.SENTENCES.folder.relative_to(assets.cache_folder()) / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a cache folder of our own."""
    monkeypatch.setenv("HANSE_CACHE", str(tmp_path))
    return tmp_path


def test_clear_ratings_only(cache: Path) -> None:
    sentences_in(cache, b"1\t0.51\tgood &amp; fine\r\n2\t0.5\tso\r\n3\t-0.5\tso\r\n4\t-0.51\tbad\ttab\r\n\r\n")
    rows = read_embedded()
    assert [(row.text, row.label) for row in rows[:2]] == [
        ("good & fine", "positive"),
        ("bad\ttab", "negative"),
    ]
    assert [row.number for row in rows] == list(range(1, 9))


@pytest.mark.parametrize(
    "content", [b"", b"1\tno rating\ttext\n", b"1\t2.0\n", b"1\tnan\ttext\n", b"1\t1\t\xff\n"]
)
def test_a_damaged_file_is_told_with_the_mend(cache: Path, content: bytes) -> None:
    sentences_in(cache, content)
    with pytest.raises(BadInput, match=r"film-reviews.txt: damaged in the cache; remove .* hanse assets fetch"):
        read_embedded()


def test_without_the_sentences_one_line_says_what_brings_them(cache: Path) -> None:
    with pytest.raises(BadInput, match=r"^embedded sentences: not in the cache; run: hanse assets fetch"):
        load_source("embedded", EMBEDDED_LABELS)
