"""Entries: bounds of every field, and one form for each entry."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone

import pytest

from common.errors import BadInput
from common.privacy.ledger.canonical import canonical
from common.privacy.ledger.details import GENESIS, Kind
from common.privacy.ledger.entry import Stamp, check_name, entry_from_line, seal_entry, signed_bytes
from tests.common.privacy.ledger.samples import KEY, STORY, chained, opened

ENTRIES = chained(STORY)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry.kind))
def test_a_line_gives_its_entry_back(entry: object) -> None:
    line = entry.line()  # type: ignore[attr-defined]
    assert entry_from_line(line) == entry
    assert entry_from_line(line).line() == line


def test_an_entry_is_frozen_and_knows_its_place() -> None:
    with pytest.raises(FrozenInstanceError):
        ENTRIES[0].note = "x"  # type: ignore[misc]
    assert (ENTRIES[1].kind, ENTRIES[1].head.sequence, ENTRIES[1].head.hash) == (Kind.RESERVE, 2, ENTRIES[1].hash)


def test_p17_the_time_is_rounded_down_to_the_hour_in_utc() -> None:
    local = datetime(2026, 1, 1, 0, 59, 59, 999999, tzinfo=timezone(timedelta(hours=1)))
    assert seal_entry(opened(), GENESIS, Stamp(local, bytes(16), None), KEY).time == "2025-12-31T23:00:00Z"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("time", value)
            for value in ("2026-11-24T12:30:00Z", "2026-13-01T00:00:00Z", "2026-11-24T24:00:00Z", 5)
        ),
        *(("time", value) for value in ("2026-11-24T12:00:00+00:00", "٢٠٢٦-11-24T12:00:00Z", None)),
        *(("dataset", value) for value in ("", " x", "x" * 101, "a\nb", 7, None)),
        *(("round", value) for value in (0, -1, 1.5, True, "1")),
        *(("sequence", value) for value in (0, None, True)),
        *(("study", value) for value in ("", "a" * 63, "A" * 64, 1)),
        *(("random", value) for value in ("", "0" * 31, None)),
        *(("note", value) for value in ("x" * 1001, None)),
        *(("run", value) for value in ("x" * 101, 5)),
        *(("format", value) for value in ("hanse-ledger/2", None)),
        *(("kind", value) for value in ("opened", None, 1)),
        *(("mechanism", value) for value in ({}, [], {"mechanism": "gaussian"})),
        *(("details", value) for value in ({}, None, {"budget": 1, "extra": 1})),
    ],
)
def test_a_field_out_of_bounds_is_refused(field: str, value: object) -> None:
    line = canonical(json.loads(ENTRIES[1].line()) | {field: value})
    with pytest.raises(BadInput):
        entry_from_line(line)


@pytest.mark.parametrize("left_out", ["kind", "order"])
def test_a_default_left_out_is_another_form_and_refused(left_out: str) -> None:
    data = json.loads(ENTRIES[0].line())
    if left_out == "kind":
        data["details"]["terms"]["order"] = None
        data["details"]["terms"].pop("kind")
    else:
        data["details"]["terms"] |= {"kind": "plan"}
        data["details"]["terms"].pop("order")
    with pytest.raises(BadInput, match="one form"):
        entry_from_line(canonical(data))


def test_the_signed_bytes_name_the_format() -> None:
    assert signed_bytes("a" * 64) == b"hanse-ledger/1:" + b"a" * 64


def test_names_of_datasets() -> None:
    assert check_name("Größe €") == "Größe €"
    for name in ("", " a", "a ", "a\tb", "a\u200bb", "x" * 101):
        with pytest.raises(BadInput, match="dataset = "):
            check_name(name)
