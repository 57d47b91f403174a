"""A JSON record with the coordinator's signature over it: releases, and payments of an auction.

Signed are the canonical bytes (RFC 8785) of the record's body after a prefix that names its kind, so that a
signature of one kind never passes for one of another, nor for a payout statement or a ledger entry.
"""

from __future__ import annotations

import json

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.canonical import Json, canonical
from common.privacy.ledger.keys import SiteKey, public_key_from_hex, signature_is_valid

__all__ = ["PAYMENTS", "RELEASE", "signed_record", "verified_body"]

PAYMENTS = "hanse auction payments 1\n"
"""Kind of an auction's payments."""
RELEASE = "hanse release 1\n"
"""Kind of a release."""


def signed_record(kind: str, body: dict[str, Json], key: SiteKey) -> str:
    """The record as JSON text; what stands under ``body`` is signed."""
    signature = key.sign(kind.encode() + canonical(body)).hex()
    record = {"kind": kind.strip(), "body": body, "public_key": key.public_hex, "signature": signature}
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def verified_body(text: str, kind: str, public_key: str, where: str) -> dict[str, Json]:
    """The body of a record, once its signature is known to be ``public_key``'s.

    Args:
        text: as :func:`signed_record` made it; layout may differ, values may not.
        kind: what the record must be.
        public_key: the coordinator's, from a source other than the record.
        where: names the record in errors.

    Raises:
        AuditFailure: it is no such record, was signed by another key, or was changed after signing.
        BadInput: ``public_key`` is no key.
    """
    key = public_key_from_hex(public_key)
    try:
        tree = json.loads(text)
        if tree["kind"] != kind.strip() or not isinstance(tree["body"], dict):
            raise ValueError(f"its kind is {tree['kind']!r}")
        body: dict[str, Json] = tree["body"]
        signer, signature = str(tree["public_key"]), bytes.fromhex(tree["signature"])
        message = kind.encode() + canonical(body)
    except (ValueError, TypeError, KeyError, RecursionError, BadInput) as error:
        raise AuditFailure(f"{where}: is no such record of Hanse ({error})") from error
    if signer != public_key:
        raise AuditFailure(f"{where}: signed by {signer[:100]}, not by the key given")
    if not signature_is_valid(key, signature, message):
        raise AuditFailure(f"{where}: the signature is not the key's over these values")
    return body
