"""The hub's library reads real local data sets here; the network stays out of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadInput
from common.sources import Columns, Example, load_source

datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")

LABELS = ("negative", "positive")
UNPINNED = "hub:owner/reviews: not pinned; add @ and a commit to make the study repeatable"

Maker = Callable[..., None]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Write Parquet files, with the library's own feature types, where ``owner/reviews`` is found offline."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "reviews"
    folder.mkdir(parents=True)
    datasets.disable_progress_bars()

    def make(names: list[str] | None = None, **parts: dict[str, list[Any]]) -> None:
        label = datasets.ClassLabel(names=names) if names else None
        for part, columns in parts.items():
            made = datasets.Dataset.from_dict(columns)
            (made.cast_column("label", label) if label else made).to_parquet(folder / f"{part}.parquet")

    return make


def test_parts_of_a_hub_data_set(hub: Maker) -> None:
    hub(
        train={"text": ["good", "bad"], "label": ["positive", "negative"]},
        test={"text": ["fine", "poor"], "label": ["positive", "negative"]},
    )
    dataset, report = load_source("hub:owner/reviews", LABELS)
    assert dataset.examples == (Example("good", 1), Example("bad", 0))
    assert dataset.test == (Example("fine", 1), Example("poor", 0))
    assert report.warnings == (UNPINNED,)


def test_named_classes_are_read_by_name_whatever_their_order(hub: Maker) -> None:
    hub(["negative", "positive"], train={"text": ["good", "bad"], "label": [1, 0]})
    dataset, _ = load_source("hub:owner/reviews", ("positive", "negative"))
    assert dataset.examples == (Example("good", 0), Example("bad", 1))


def test_foreign_class_names_are_read_by_position_with_a_warning(hub: Maker) -> None:
    hub(["neg", "pos"], train={"text": ["good", "bad"], "label": [1, 0]})
    dataset, report = load_source("hub:owner/reviews", LABELS)
    assert dataset.examples == (Example("good", 1), Example("bad", 0))
    assert "hub:owner/reviews (train): neg, pos read by position as negative, positive" in report.warnings


def test_an_unlabelled_test_part_is_left_out(hub: Maker) -> None:
    hub(LABELS, train={"text": ["good", "bad"], "label": [1, 0]}, test={"text": ["what"], "label": [-1]})
    dataset, report = load_source("hub:owner/reviews", LABELS)
    assert dataset.test == ()
    assert "hub:owner/reviews (test): no row is labelled; this part is not used" in report.warnings


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"test": {"text": ["a"], "label": [0]}}, "no part named train among test"),
        ({"train": {"sentence": ["a"], "label": [0]}}, 'no column "text" among "sentence", "label"'),
        ({"train": {"text": ["a", ""], "label": [0, 1]}}, "hub:owner/reviews (train): row 2: text is empty"),
        ({"train": {"text": ["a"], "label": [7]}}, "row 1: label = 7: not one of negative, positive"),
    ],
)
def test_a_data_set_that_does_not_fit(hub: Maker, parts: dict[str, Any], message: str) -> None:
    hub(**parts)
    with pytest.raises(BadInput) as caught:
        load_source("hub:owner/reviews", LABELS)
    assert message in str(caught.value)


def test_other_columns_by_name(hub: Maker) -> None:
    hub(train={"sentence": ["good", "bad"], "stars": [1, 0], "shop": ["north", "south"]})
    dataset, _ = load_source("hub:owner/reviews", LABELS, Columns("sentence", "stars", "shop"))
    assert dataset.examples[0] == Example("good", 1, "north")


def test_a_data_set_out_of_reach(hub: Maker) -> None:
    with pytest.raises(BadInput, match=r"hub:owner/elsewhere@abc123: not found on the hub, or .* out of reach"):
        load_source("hub:owner/elsewhere@abc123", LABELS)


def test_a_data_set_that_the_library_cannot_read(hub: Maker) -> None:
    Path("owner/reviews/train.parquet").write_text("no Parquet")
    with pytest.raises(BadInput, match=r"the datasets library cannot read it \(\w+\); download"):
        load_source("hub:owner/reviews", LABELS)


def test_without_the_library_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r'"datasets" is not installed; run: python -m pip install'):
        load_source("hub:owner/reviews@abc123", LABELS)


@pytest.mark.parametrize("source", ["hub:", "hub:imdb", "hub:a/b/c", "hub:a/b@", "hub:../a", "hub:a/.."])
def test_a_misspelt_source(source: str) -> None:
    with pytest.raises(BadInput, match="not of the form"):
        load_source(source, LABELS)
