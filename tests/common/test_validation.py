"""The validating pass: every fault told at once, none of them with a text in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.examples import Columns, Example
from common.validation import (
    Expected,
    Faults,
    Row,
    SourceReport,
    class_counts,
    example_warnings,
    shown,
    validate_rows,
)

LABELS = ("negative", "positive")


def validated(*cells: tuple[object, ...], labels: tuple[str, ...] = LABELS) -> tuple[Example, ...]:
    """Examples of these rows, or the refusal."""
    faults = Faults()
    rows = [Row.of(number, row) for number, row in enumerate(cells, start=1)]
    columns = [Columns(), Columns(partition="shop"), Columns(partition="shop", group="person")][len(cells[0]) - 2]
    examples = validate_rows("reviews.csv", rows, Expected(labels, columns), faults)
    faults.refuse()
    return examples


def refusal(*cells: tuple[object, ...], labels: tuple[str, ...] = LABELS) -> str:
    """Message with which these rows are refused."""
    with pytest.raises(BadInput) as caught:
        validated(*cells, labels=labels)
    return str(caught.value)


def test_labels_by_name() -> None:
    assert validated(("good", "positive"), ("bad", "negative")) == (Example("good", 1), Example("bad", 0))


@pytest.mark.parametrize("ones", [1, "1"])
def test_labels_by_position(ones: object) -> None:
    assert validated(("good", ones)) == (Example("good", 1),)


def test_a_label_whose_name_is_a_number_is_a_name() -> None:
    """With stars 1 to 3 as labels, a 1 means one star, which is position 0."""
    stars = ("1", "2", "3")
    assert validated(("bad", 1), ("fair", "2"), labels=stars) == (Example("bad", 0), Example("fair", 1))
    assert "stars" not in refusal(("worse", 0), labels=stars)


@pytest.mark.parametrize("label", [2, -1, "2", True, 1.0, None, "", "Positive", "²", 10**40, [1]])
def test_what_is_no_label(label: object) -> None:
    assert "not one of negative, positive" in refusal(("good", label))


def test_a_near_miss_is_guessed() -> None:
    assert 'did you mean "positive"?' in refusal(("good", " Positve "))


def test_a_fault_says_where_what_and_the_mend_in_one_line() -> None:
    assert refusal(("good", "positive"), ("fair", "neutral")) == (
        'reviews.csv: row 2: label = "neutral": not one of negative, positive; '
        "correct the label or add it to task.labels"
    )


def test_names_mixed_with_positions_are_refused() -> None:
    message = refusal(("good", "positive"), ("bad", 0))
    assert "mixes names (first in row 1) with positions (first in row 2)" in message


def test_five_faults_are_told_and_the_rest_counted() -> None:
    message = refusal(*[("", "positive")] * 9)
    assert message.count("text is empty") == 5
    assert "row 5: text is empty | and 4 more; " in message
    assert "\n" not in message


def test_a_row_with_two_faults_tells_both() -> None:
    message = refusal(("  ", "neutral"))
    assert "row 1: text is empty" in message
    assert 'row 1: label = "neutral"' in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "text is missing"),
        ("\t\n", "text is empty"),
        (7, "text is no text but int"),
        (b"good", "text is no text but bytes"),
        ("half \ud83d", "lone surrogate"),
    ],
)
def test_what_is_no_text(text: object, problem: str) -> None:
    assert problem in refusal((text, "positive"))


@pytest.mark.parametrize("domain", [None, "", "  ", 1.5, True])
def test_what_names_no_partition(domain: object) -> None:
    assert "row 1: shop is empty" in refusal(("good", "positive", domain))


def test_a_partition_may_be_a_number() -> None:
    assert validated(("good", "positive", 7)) == (Example("good", 1, "7"),)


@pytest.mark.parametrize("person", [None, "", " \t", 1.5, float("nan"), True, [7], b"Jane", "\ud83d"])
def test_p02_a_row_without_a_person_is_refused(person: object) -> None:
    """With its number; every row that lacks one is told."""
    rows = [("good", 1, "north", "Jane"), ("bad", 0, "north", person), ("fair", 0, "north", person)]
    assert refusal(*rows) == (
        "reviews.csv: row 2: person names no person | row 3: person names no person; "
        "give every row its person's id, in text or as a whole number, or remove the row"
    )


def test_p02_a_person_is_an_id_in_text_or_a_whole_number() -> None:
    """Blanks around it do not make another person, who would be a second unit."""
    rows = [("good", 1, "north", 7), ("fine", 1, "south", " 7 "), ("bad", 0, "north", "Jane")]
    assert [(example.domain, example.group) for example in validated(*rows)] == [
        ("north", "7"), ("south", "7"), ("north", "Jane"),
    ]  # fmt: skip


def test_persons_need_no_partition() -> None:
    faults = Faults()
    rows = [Row.of(1, ("good", 1, "Jane"), 2)]
    examples = validate_rows("r.csv", rows, Expected(LABELS, Columns(group="person")), faults)
    assert not len(faults)
    assert examples == (Example("good", 1, "", "Jane"),)


def test_p15_a_persons_id_is_never_shown() -> None:
    assert "Jane" not in refusal(("good", "neutral", "north", "Jane"), ("", 1, None, "Jane"))
    assert "Jane" not in repr(Row.of(1, ("good", 1, "north", "Jane")))


def test_p15_a_text_in_the_place_of_a_label_is_not_shown() -> None:
    message = refusal(("positive", "the patient from room nine"))
    assert "patient" not in message
    assert "(26 characters)" in message


@given(st.text(min_size=1))
def test_p15_what_is_shown_is_one_short_word_in_one_line(value: str) -> None:
    written = shown(value)
    assert len(written.splitlines()) == 1
    assert len(value) <= 24 or value not in written
    assert len(value.split()) < 2 or value not in written


def test_values_as_messages_show_them() -> None:
    values = [None, "", "neutral", "two words", True, 3, 0.5, 10**30, [1]]
    assert [shown(value) for value in values] == [
        "(nothing)",
        "(empty)",
        '"neutral"',
        "(9 characters)",
        "true",
        "3",
        "0.5",
        "(a long number)",
        "(list)",
    ]


def test_faults_of_several_files_name_each_file_once() -> None:
    faults = Faults()
    faults.add("train.csv", "row 1: text is empty", "mend it")
    faults.add("train.csv", "row 2: text is empty", "mend it")
    faults.add("test.csv", "row 1: text is empty", "mend that")
    with pytest.raises(BadInput) as caught:
        faults.refuse()
    assert str(caught.value) == (
        "train.csv: row 1: text is empty | row 2: text is empty | "
        "test.csv: row 1: text is empty; mend it, mend that"
    )
    assert len(faults) == 3


def test_no_fault_no_refusal() -> None:
    Faults().refuse()


def test_warnings_count_repeats_conflicts_and_unused_labels() -> None:
    examples = [Example("good", 1), Example("good", 1), Example("odd", 1), Example("odd", 0)]
    assert example_warnings("train.csv", examples, ("negative", "positive", "mixed")) == (
        "train.csv: 2 rows repeat the text of an earlier row",
        "train.csv: 1 texts stand there with different labels",
        "train.csv: no row has the label mixed",
    )
    assert example_warnings("train.csv", [Example("good", 1), Example("bad", 0)], LABELS) == ()


def test_class_balance() -> None:
    assert class_counts([Example("good", 1), Example("fine", 1)], LABELS) == {"negative": 0, "positive": 2}


def test_p15_no_repr_carries_rows_or_sizes() -> None:
    assert repr(SourceReport(17, {"negative": 17}, ("w",))) == "SourceReport()"
    assert "secret" not in repr(Row(1, "secret", "secret", "secret"))
