"""How a coordinator's receipt travels: beside a plan, or alone after the last round (PRIVACY P8)."""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from common.errors import BadInput
from common.privacy.ledger.receipt import SignedReceipt

__all__ = ["RECEIPT", "unpack_receipt", "with_receipt"]

RECEIPT = "query.receipt"
"""Flower message type that brings a site the last receipt of a run."""

_KEY = "receipt"


def with_receipt(content: RecordDict, receipt: SignedReceipt) -> RecordDict:
    """The same message for one site, its receipt beside it; the weights are shared, not copied."""
    records = dict(content.items())
    records[_KEY] = ConfigRecord(dict(receipt.model_dump()))
    return RecordDict(records)


def unpack_receipt(content: RecordDict) -> SignedReceipt | None:
    """The receipt that came along, its signature not yet verified; None where none did.

    Raises:
        BadInput: what stands in its place is no receipt.
    """
    record = content.get(_KEY)
    if record is None:
        return None
    if not isinstance(record, ConfigRecord):
        raise BadInput("receipt: must be a configuration record")
    try:
        return SignedReceipt.model_validate(dict(record))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"receipt: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
