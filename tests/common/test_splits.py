"""Splits and caps depend on each unit alone: a row's own text, or a person."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.errors import BadInput
from common.examples import Dataset, Example
from common.splits import Fractions, Splits, capped, capped_units, part_of, split

LABELS = ("negative", "positive")
texts = st.lists(st.text(min_size=1, max_size=8), min_size=30, max_size=60)
PERSONS = ("Ann", "Bea", "Cid", "Dan")
rows_of_persons = st.lists(
    st.builds(Example, st.sampled_from("abcdef"), st.integers(0, 1), st.just(""), st.sampled_from(PERSONS)),
    min_size=1,
    max_size=60,
)
STRANGERS = tuple(Example(f"text {number}", number % 2, "", f"stranger {number}") for number in range(40))
"""One row each; they keep every part from staying empty."""


def dataset_of(rows: list[str]) -> Dataset:
    """Make a data set of these texts, with labels by turns."""
    return Dataset(tuple(Example(text, number % 2) for number, text in enumerate(rows)), LABELS)


def numbered(count: int) -> Dataset:
    """Make a data set of distinct texts."""
    return dataset_of([f"sentence {number}" for number in range(count)])


@given(texts, st.binary(min_size=1, max_size=32), st.data())
def test_p10_removing_a_row_moves_no_other_row(rows: list[str], key: bytes, data: st.DataObject) -> None:
    fractions = Fractions(0.3, 0.3)
    gone = data.draw(st.integers(0, len(rows) - 1))
    examples = dataset_of(rows).examples
    try:
        before = split(Dataset(examples, LABELS), key, fractions)
        after = split(Dataset(examples[:gone] + examples[gone + 1 :], LABELS), key, fractions)
    except BadInput:
        assume(False)
    kept = 0
    for ours, theirs in zip(before, after, strict=True):
        without = list(ours)
        if examples[gone] in without and len(theirs) < len(without):
            without.remove(examples[gone])
        assert sorted(without, key=repr_key) == sorted(theirs, key=repr_key)
        kept += len(theirs)
    assert kept == len(examples) - 1


def repr_key(example: Example) -> tuple[str, int]:
    """Order examples, for comparing them as multisets."""
    return (example.text, example.label)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=40, max_size=60), st.integers())
def test_p10_equal_texts_fall_into_one_part(rows: list[str], key: int) -> None:
    try:
        parts = split(dataset_of(rows), key, Fractions(0.3, 0.3))
    except BadInput:
        assume(False)
    held = [{example.text for example in part} for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert sum(map(len, parts)) == len(rows)


@given(rows_of_persons, st.integers(0, 99), st.sampled_from(PERSONS))
def test_p10_removing_a_person_moves_no_other_row(rows: list[Example], key: int, gone: str) -> None:
    fractions = Fractions(0.3, 0.3)
    before = split(Dataset((*rows, *STRANGERS), LABELS), key, fractions)
    rest = tuple(example for example in rows if example.group != gone)
    after = split(Dataset((*rest, *STRANGERS), LABELS), key, fractions)
    for ours, theirs in zip(before, after, strict=True):
        assert tuple(example for example in ours if example.group != gone) == theirs


@given(rows_of_persons, st.integers(0, 99))
def test_p10_a_person_lies_whole_in_one_part(rows: list[Example], key: int) -> None:
    """Whatever the person wrote, and however much: the id alone decides."""
    parts = split(Dataset((*rows, *STRANGERS), LABELS), key, Fractions(0.3, 0.3))
    held = [{example.group for example in part} for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert sum(map(len, parts)) == len(rows) + len(STRANGERS)


def test_p10_the_parts_of_persons_do_not_follow_their_texts() -> None:
    """Forty persons with one and the same text are not all in one part, as forty copies without persons are."""
    same = tuple(Example("same", 0, "", example.group) for example in STRANGERS)
    assert all(split(Dataset(same, LABELS), 7, Fractions(0.3, 0.3)))


@given(rows_of_persons, st.integers(1, 9), st.integers(0, 99), st.sampled_from(PERSONS))
def test_p10_removing_a_person_changes_no_other_persons_kept_rows(
    rows: list[Example], limit: int, key: int, gone: str
) -> None:
    rest = [example for example in rows if example.group != gone]
    kept = capped_units(rows, limit, key)
    assert tuple(example for example in kept if example.group != gone) == capped_units(rest, limit, key)


@given(rows_of_persons, st.integers(1, 9), st.integers(0, 99), st.randoms())
def test_a_person_keeps_as_many_rows_as_the_cap_allows(
    rows: list[Example], limit: int, key: int, chooser: random.Random
) -> None:
    """In their order; and which ones does not depend on it."""
    kept = capped_units(rows, limit, key)
    following = iter(rows)
    assert all(example in following for example in kept)
    for person in PERSONS:
        had = sum(example.group == person for example in rows)
        assert sum(example.group == person for example in kept) == min(had, limit)
    shuffled = list(rows)
    chooser.shuffle(shuffled)
    assert Counter(capped_units(shuffled, limit, key)) == Counter(kept)


def test_the_key_decides_which_rows_of_a_person_stay() -> None:
    rows = [Example(f"text {number}", 0, "", "Ann") for number in range(20)]
    chosen = {capped_units(rows, 3, key) for key in range(10)}
    assert len(chosen) == 10
    # Of all rows, not of the first alone: thirty draws miss the last ten with a chance below 1e-9.
    assert any(rows.index(example) >= 10 for kept in chosen for example in kept)


def test_rows_without_a_person_are_not_capped() -> None:
    examples = numbered(20).examples
    assert capped_units(examples, 1, 7) == examples


def test_a_cap_of_persons_below_one_is_refused() -> None:
    with pytest.raises(BadInput, match="limit = 0: must be at least 1"):
        capped_units(numbered(3).examples, 0, 7)


def test_shares_come_out_as_asked() -> None:
    """Binomial with 20,000 draws: five standard deviations are 0.011 and 0.015; false alarm below 1e-5."""
    parts = split(numbered(20_000), 7, Fractions(validation=0.1, test=0.2))
    assert len(parts.validation) / 20_000 == pytest.approx(0.1, abs=0.011)
    assert len(parts.test) / 20_000 == pytest.approx(0.2, abs=0.015)


def test_the_key_decides() -> None:
    dataset = numbered(200)
    assert split(dataset, 7) == split(dataset, 7)
    assert split(dataset, 7) != split(dataset, 8)
    assert split(dataset, b"\x00key") != split(dataset, b"\x01key")


def test_a_part_is_pinned() -> None:
    """Golden values, computed once with this code: recorded studies must split as they did."""
    fractions = Fractions(0.25, 0.25)
    parts = [part_of(text, 7, fractions) for text in "abcdefghijklmnop"]
    assert "".join(part[1] for part in parts) == "arrrrrarreeaerar"


def test_a_ready_made_test_part_is_taken_as_it_is() -> None:
    ready = (Example("ready", 1),)
    dataset = Dataset(numbered(200).examples, LABELS, test=ready)
    parts = split(dataset, 7, Fractions(0.2, 0.2))
    assert parts.test == ready
    assert len(parts.train) + len(parts.validation) == 200
    assert parts.validation


def test_with_both_parts_ready_made_everything_else_trains() -> None:
    ready = (Example("ready", 1),)
    examples = numbered(20).examples
    assert split(Dataset(examples, LABELS, ready, ready), 7) == Splits(examples, ready, ready)


def test_a_part_that_stays_empty_is_refused() -> None:
    with pytest.raises(BadInput, match=r"leaves the test part empty; give more rows"):
        split(dataset_of(["one"] * 9), 1, Fractions(0.0, 1e-9))


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, 1.0), (0.5, 0.5), (float("nan"), 0.1)])
def test_fractions_are_checked(validation: float, test: float) -> None:
    with pytest.raises(BadInput, match=r"data\.\w+_fraction"):
        Fractions(validation, test)


def test_p15_splits_have_a_silent_repr() -> None:
    assert repr(split(numbered(200), 7)) == "Splits()"


@given(texts, st.integers(1, 70), st.integers())
def test_a_cap_keeps_order_and_does_not_depend_on_it(rows: list[str], limit: int, key: int) -> None:
    examples = dataset_of(list(dict.fromkeys(rows))).examples
    kept = capped(examples, limit, key)
    assert len(kept) == min(limit, len(examples))
    assert list(kept) == [example for example in examples if example in set(kept)]
    assert set(capped(examples[::-1], limit, key)) == set(kept)


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(BadInput, match="limit = 0: must be at least 1"):
        capped(numbered(3).examples, 0, 7)
