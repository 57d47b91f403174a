"""Statements: verifiable as written, and not after any change."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.canonical import canonical
from common.privacy.ledger.keys import SiteKey
from server.economics.statements import (
    Statement,
    sign_statement,
    statement_csv,
    statement_from_json,
    statement_html,
    statement_json,
)

KEY = SiteKey.from_seed(bytes(range(32)))
OTHER_KEY = SiteKey.from_seed(bytes(32))
STATEMENT = Statement(
    study="ab" * 32,
    run="reviews-7",
    site="north",
    policy="shapley",
    contribution=0.031,
    half_width=None,
    method="exact Shapley over 4 sites, log-loss on the public validation split",
    currency="EUR",
    pot_cents=1_000_000,
    auction_cents=15_428,
    payout_cents=147_830,
    kept_cents=0,
    ownership_millionths=147_830,
)
SIGNED = sign_statement(STATEMENT, KEY)
TEXT = statement_json(SIGNED)


def test_a_statement_reads_back_as_it_was_signed() -> None:
    assert statement_from_json(TEXT, KEY.public_hex) == SIGNED
    assert sign_statement(STATEMENT, KEY) == SIGNED


def test_the_layout_may_differ() -> None:
    assert statement_from_json(json.dumps(json.loads(TEXT)), KEY.public_hex) == SIGNED


def changed(name: str, value: object) -> str:
    """The statement's text with another value of one field."""
    tree = json.loads(TEXT)
    tree["statement"][name] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("study", "cd" * 32),
        ("run", "reviews-8"),
        ("site", "south"),
        ("policy", "equal"),
        ("contribution", 0.032),
        ("contribution", None),
        ("half_width", 0.0),
        ("method", ""),
        ("currency", "CHF"),
        ("pot_cents", 1_000_001),
        ("auction_cents", 15_429),
        ("payout_cents", 147_831),
        ("kept_cents", 1),
        ("ownership_millionths", 147_831),
    ],
)
def test_no_field_can_be_changed(name: str, value: object) -> None:
    with pytest.raises(AuditFailure, match="the signature is not the key's over these values"):
        statement_from_json(changed(name, value), KEY.public_hex)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        changed("payout_cents", 147_830.0),
        changed("payout_cents", True),
        changed("payout_cents", -1),
        changed("contribution", "0.031"),
        changed("contribution", float("nan")),
        changed("site", 5),
        changed("extra", 1),
        TEXT.replace(SIGNED.signature, "zz"),
        TEXT.replace(f'"{SIGNED.signature}"', "7"),
        "[" * 100_000,
    ],
)
def test_what_is_no_statement_is_a_failed_audit(text: str) -> None:
    with pytest.raises(AuditFailure, match="statement: not one that Hanse wrote"):
        statement_from_json(text, KEY.public_hex)


@given(st.integers(0, 127), st.sampled_from("0123456789abcdef"))
def test_another_signature_is_refused(place: int, digit: str) -> None:
    forged = SIGNED.signature[:place] + digit + SIGNED.signature[place + 1 :]
    if forged != SIGNED.signature:
        with pytest.raises(AuditFailure, match="signature is not the key's"):
            statement_from_json(TEXT.replace(SIGNED.signature, forged), KEY.public_hex)


def test_another_signer_is_refused_even_if_it_names_itself() -> None:
    forged = statement_json(sign_statement(STATEMENT, OTHER_KEY))
    with pytest.raises(AuditFailure, match="not by the key given"):
        statement_from_json(forged, KEY.public_hex)
    renamed = forged.replace(OTHER_KEY.public_hex, KEY.public_hex)
    with pytest.raises(AuditFailure, match="signature is not the key's"):
        statement_from_json(renamed, KEY.public_hex)


def test_a_signature_over_the_bare_values_does_not_pass() -> None:
    # so that no other document that the key signs can be passed off as a statement
    tree = json.loads(TEXT)
    tree["signature"] = KEY.sign(canonical(tree["statement"])).hex()
    with pytest.raises(AuditFailure, match="signature is not the key's"):
        statement_from_json(json.dumps(tree), KEY.public_hex)


def test_a_key_that_is_none_is_bad_input() -> None:
    with pytest.raises(BadInput, match="64 lower-case hexadecimal digits"):
        statement_from_json(TEXT, "north")


def test_csv_has_the_same_values_and_no_formulas() -> None:
    tricky = replace(STATEMENT, site='=HYPERLINK("x")', method="two\nlines, and a comma")
    signed = sign_statement(tricky, KEY)
    (row,) = csv.DictReader(io.StringIO(statement_csv(signed)))
    assert row["site"] == "'" + tricky.site
    assert row["method"] == tricky.method
    assert (row["payout_cents"], row["half_width"], row["contribution"]) == ("147830", "", "0.031")
    assert (row["public_key"], row["signature"]) == (KEY.public_hex, signed.signature)


def test_a_page_shows_the_amounts_and_runs_nothing() -> None:
    page = statement_html(sign_statement(replace(STATEMENT, site="<script>alert(1)</script>"), KEY))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for shown in ("1,478.30 EUR", "154.28 EUR", "1,632.58 EUR", "10,000.00 EUR", "0.031000", "14.7830 %"):
        assert shown in page
    assert "http" not in page


def test_a_contribution_that_must_stay_is_not_stated() -> None:
    signed = sign_statement(replace(STATEMENT, contribution=None, policy="equal"), KEY)
    assert "not stated" in statement_html(signed)
    assert statement_from_json(statement_json(signed), KEY.public_hex).statement.contribution is None


@pytest.mark.parametrize(
    "change", [{"payout_cents": 1_000_001}, {"kept_cents": 900_000}, {"payout_cents": -1}, {"auction_cents": -1}]
)
def test_amounts_that_do_not_add_up_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="statement of north: amounts"):
        replace(STATEMENT, **change)


def test_a_contribution_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="finite"):
        replace(STATEMENT, half_width=float("inf"))
