"""Details: closed tables."""

from __future__ import annotations

import pytest

from common.errors import BadInput
from common.privacy.ledger.details import Approved, Head, Kind, Refused, Reserved, details_from_json, kind_of
from tests.common.privacy.ledger.samples import STORY

GOOD = {"budget": 1, "plan": None, "coordinator": "", "retry_of": None}


@pytest.mark.parametrize("draft", STORY)
def test_details_come_back_equal(draft: object) -> None:
    details = draft.details  # type: ignore[attr-defined]
    assert details_from_json(kind_of(details), details.model_dump()) == details


@pytest.mark.parametrize(
    "change",
    [
        *({"budget": 0}, {"budget": "1"}, {"budget": True}, {"plan": "x"}, {"plan": "a" * 65}),
        *({"plan": "a" * 64 + "\n"}, {"coordinator": "x" * 201}, {"retry_of": -1}, {"extra": 1}),
    ],
)
def test_unknown_fields_and_values_are_refused(change: dict[str, object]) -> None:
    assert isinstance(details_from_json(Kind.RESERVE, GOOD), Reserved)
    with pytest.raises(BadInput, match=r"^reserve entry: "):
        details_from_json(Kind.RESERVE, GOOD | change)


@pytest.mark.parametrize("code", ["", "A", "1a", "a b", "a" * 41, "a\n"])
def test_a_code_is_a_word(code: str) -> None:
    with pytest.raises(ValueError, match="code"):
        Refused(code=code)


@pytest.mark.parametrize("day", ["2026-1-1", "tomorrow", "٢٠٢٦-11-24"])
def test_a_day_is_written_in_one_way(day: str) -> None:
    with pytest.raises(ValueError, match="expires"):
        Approved(expires=day)


def test_heads_are_values() -> None:
    assert len({Head(sequence=1, hash="a" * 64), Head(sequence=1, hash="a" * 64)}) == 1
