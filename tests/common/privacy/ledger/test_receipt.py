"""Receipts: what a coordinator signs of a site's ledger, and what is not taken for one (PRIVACY P8)."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import SiteKey
from common.privacy.ledger.receipt import Receipt, SignedReceipt, sign_receipt

KEY = SiteKey.from_seed(bytes(range(32)))
RECEIPT = Receipt(site="north", run="ab" * 16, nonce="01" * 16, head=Head(sequence=7, hash="cd" * 32))


def test_p08_what_was_signed_is_read_back() -> None:
    signed = sign_receipt(KEY, RECEIPT)
    assert signed.coordinator == KEY.public_hex
    assert signed.opened() == RECEIPT


@pytest.mark.parametrize("field", ["site", "run", "nonce", "head"])
def test_p08_no_field_can_be_changed(field: str) -> None:
    signed = sign_receipt(KEY, RECEIPT)
    body = json.loads(signed.body)
    body[field] = {"site": "south", "run": "ef" * 16, "nonce": "02" * 16, "head": None}[field]
    changed = signed.model_copy(update={"body": json.dumps(body)})
    with pytest.raises(BadInput, match="its signature is not that of the witness key"):
        changed.opened()


def test_p08_anothers_signature_is_none() -> None:
    other = SiteKey.from_seed(bytes(32))
    signed = sign_receipt(other, RECEIPT).model_copy(update={"coordinator": KEY.public_hex})
    with pytest.raises(BadInput, match="signature"):
        signed.opened()


def test_a_signed_text_that_is_no_receipt_is_refused() -> None:
    body = json.dumps({"format": "hanse-receipt-1", "site": "north"})
    signed = SignedReceipt(coordinator=KEY.public_hex, body=body, signature=KEY.sign(body.encode()).hex())
    with pytest.raises(BadInput, match=r"receipt: run: Field required"):
        signed.opened()


@pytest.mark.parametrize("field", ["coordinator", "signature", "body"])
def test_the_form_is_checked_before_anything_is_verified(field: str) -> None:
    values = sign_receipt(KEY, RECEIPT).model_dump() | {field: "x" * 3000}
    with pytest.raises(ValidationError):
        SignedReceipt(**values)
