"""Hints find what is planted and leave alone what only looks near."""

from __future__ import annotations

import pytest

from deploy.data_check.texts import PERSONAL, Lengths, languages, lengths, personal_data, scripts

PLANTED = [
    ("e-mail address", "write to jane.doe+x@mail.example.org today"),
    ("telephone number", "call +49 30 1234567 now"),
    ("telephone number", "call (212) 555-0199 now"),
    ("bank account (IBAN)", "pay to DE89 3704 0044 0532 0130 00 soon"),
    ("payment card", "card 4111 1111 1111 1111 was used"),
    ("IP address", "from 192.168.0.17 at night"),
    ("US social security number", "number 123-45-6789 on file"),
    ("date of birth", "She was born on 3.4.1970 there"),
]
HARMLESS = [
    "It costs 3.50 and took 1999 days", "version 1.2.3.4.5 of 2024", "see you @ noon", "score 999-99-9999",
    "card 4111 1111 1111 1112", "DE88 3704 0044 XYZW ABCD 12", "0 to 10, 20 or 30", "1111 1111 1111 1111",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), PLANTED)
def test_what_is_planted_is_found(kind: str, text: str) -> None:
    assert kind in personal_data([text], [7])


@pytest.mark.parametrize("text", HARMLESS)
def test_what_looks_near_is_left_alone(text: str) -> None:
    assert personal_data([text], [1]) == {}


def test_rows_are_named_by_number_and_texts_never() -> None:
    found = personal_data([PLANTED[0][1]] * 12 + ["nothing"], list(range(101, 114)))
    assert found["e-mail address"].count == 12
    assert found["e-mail address"].first == tuple(range(101, 111))
    assert "jane" not in repr(found)
    assert set(found) <= set(PERSONAL)


def test_lengths_are_in_words() -> None:
    assert lengths(["one", "one two", "one two three"]) == Lengths(1, 2.0, pytest.approx(2.9), 3)  # type: ignore[arg-type]
    assert lengths([]) is None


def test_scripts_and_languages_are_counted() -> None:
    texts = [
        "Это хороший фильм и мне нравится",
        "the film is good and it was short",
        "der Film ist nicht gut und lang",
        "12",
    ]
    assert scripts(texts) == {"Latin": 2, "Cyrillic": 1, "none": 1}
    assert languages(texts) == {"unclear": 1, "English": 1, "German": 1}
