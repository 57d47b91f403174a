"""Examples never show their text; the fingerprint says what a data set says, and only that."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from common.examples import Columns, Dataset, Example, fingerprint, rows_of_units

LABELS = ("negative", "positive")


def test_p15_no_repr_carries_a_text() -> None:
    secret = Example("the patient from room nine", 1, "ward", "Jane")
    dataset = Dataset((secret,), LABELS, (secret,), (secret,))
    assert "room" not in repr(secret) + repr(dataset)
    assert "ward" not in repr(secret)
    assert "Jane" not in repr(secret) + repr(dataset)


def test_partition_and_person_are_wanted_only_where_they_are_named() -> None:
    assert Columns().wanted == ("text", "label")
    assert Columns("review", "stars", "shop").wanted == ("review", "stars", "shop")
    assert Columns("review", "stars", "", "writer").wanted == ("review", "stars", "writer")
    assert Columns("review", "stars", "shop", "writer").wanted == ("review", "stars", "shop", "writer")


def test_every_wanted_column_has_the_key_that_names_it() -> None:
    text, label, partition, group = "data.text_column", "data.label_column", "data.column", "privacy.group_column"
    assert Columns().keys == (text, label)
    assert Columns(partition="shop").keys == (text, label, partition)
    assert Columns(group="writer").keys == (text, label, group)
    assert Columns(partition="shop", group="writer").keys == (text, label, partition, group)


def test_units_are_persons_or_single_rows() -> None:
    plain = [Example("a", 0), Example("a", 0), Example("b", 1)]
    assert rows_of_units(plain) == [[0], [1], [2]]
    persons = [Example(text, 0, group=group) for text, group in ("ax", "by", "cx", "dz", "ey", "fx")]
    assert rows_of_units(persons) == [[0, 2, 5], [1, 4], [3]]
    assert rows_of_units([]) == []


def test_the_fingerprint_is_pinned() -> None:
    """Golden value, computed once with this code: studies recorded before must keep their name."""
    dataset = Dataset((Example("good", 1, "shop"), Example("bad", 0)), LABELS, test=(Example("so so", 0),))
    assert fingerprint(dataset) == "98ca5e1bb44011908bb2fa513e426b2024d67ff1df369a37d46946185301630d"


def test_every_part_of_the_content_changes_the_fingerprint() -> None:
    base = Dataset((Example("good", 1), Example("bad", 0)), LABELS)
    others = [
        dataclasses.replace(base, examples=base.examples[::-1]),
        dataclasses.replace(base, examples=base.examples[:1]),
        dataclasses.replace(base, examples=(Example("good", 0), Example("bad", 0))),
        dataclasses.replace(base, examples=(Example("good", 1, "shop"), Example("bad", 0))),
        dataclasses.replace(base, examples=(Example("good", 1, "", "shop"), Example("bad", 0))),
        dataclasses.replace(base, examples=(Example("good", 1, "shop", "Jane"), Example("bad", 0))),
        dataclasses.replace(base, examples=(Example("good", 1, "shop", "John"), Example("bad", 0))),
        dataclasses.replace(base, examples=base.examples[:1], test=base.examples[1:]),
        dataclasses.replace(base, labels=("bad", "good")),
    ]
    assert len({fingerprint(dataset) for dataset in [base, *others]}) == 1 + len(others)


@given(
    st.lists(st.tuples(st.text(), st.text()), max_size=4),
    st.lists(st.tuples(st.text(), st.text()), max_size=4),
)
def test_no_two_contents_run_together(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> None:
    """Lengths are part of what is hashed, so moving a border between values shows."""

    def of(rows: list[tuple[str, str]]) -> str:
        return fingerprint(Dataset(tuple(Example(text, 0, domain) for text, domain in rows), LABELS))

    assert (of(ours) == of(theirs)) == (ours == theirs)
