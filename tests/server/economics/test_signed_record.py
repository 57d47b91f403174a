"""A signed record is one of its kind, of its key, and unaltered; else an audit's failure, never a traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.keys import SiteKey
from server.economics.signed_record import PAYMENTS, RELEASE, signed_record, verified_body

KEY = SiteKey.from_seed(b"\x07" * 32)
TEXT = signed_record(RELEASE, {"files": {"a": "b"}, "share": 0.25, "whole": 3}, KEY)


def test_a_record_says_what_was_signed_whatever_its_layout() -> None:
    compact = json.dumps(json.loads(TEXT), separators=(",", ":"))
    for text in (TEXT, compact):
        assert verified_body(text, RELEASE, KEY.public_hex, "r")["share"] == 0.25


def test_a_signature_of_one_kind_is_none_of_another() -> None:
    renamed = TEXT.replace(RELEASE.strip(), PAYMENTS.strip())
    for text in (TEXT, renamed):
        with pytest.raises(AuditFailure):
            verified_body(text, PAYMENTS, KEY.public_hex, "r")


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]))
def test_no_character_can_change(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    try:
        body = verified_body(changed, RELEASE, KEY.public_hex, "r")
    except AuditFailure:
        return
    assert body == json.loads(TEXT)["body"]  # only layout, or the case of a digit, moved


@given(st.text() | st.binary().map(repr) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_nonsense_is_a_failure_of_the_audit(text: str) -> None:
    with pytest.raises(AuditFailure):
        verified_body(text, RELEASE, KEY.public_hex, "r")


def test_a_key_that_is_none_is_bad_input() -> None:
    with pytest.raises(BadInput):
        verified_body(TEXT, RELEASE, "abc", "r")
