"""A coordinator's signed word of what it has witnessed of one site's ledger (PRIVACY P8).

The site asks with a nonce that it drew at its start, so that no older receipt can stand for a new one: a restored
backup meets the head that it has lost. Signed are the bytes of ``body``, which name the format, the site, the run,
the nonce and the newest head.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import SiteKey, public_key_from_hex, signature_is_valid

__all__ = ["Receipt", "SignedReceipt", "sign_receipt"]

_LONGEST = 2000


class Receipt(BaseModel):
    """What the coordinator says to one site."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["hanse-receipt-1"] = "hanse-receipt-1"
    site: str
    """The site's name, as the coordinator registered it."""
    run: str
    """The run in which it is said: 32 hexadecimal digits."""
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$")
    """What the site drew at its start, as its description told it."""
    head: Head | None
    """The newest head that the coordinator has on disk; None if it never saw one."""


class SignedReceipt(BaseModel):
    """A receipt as it travels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinator: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The witness key that signed: an Ed25519 public key."""
    body: str = Field(max_length=_LONGEST)
    """JSON of :class:`Receipt`; its UTF-8 bytes are what is signed."""
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def opened(self) -> Receipt:
        """What was signed.

        Raises:
            BadInput: the signature is not the key's, or the body is no receipt.
        """
        key = public_key_from_hex(self.coordinator)
        if not signature_is_valid(key, bytes.fromhex(self.signature), self.body.encode()):
            raise BadInput(f"receipt: its signature is not that of the witness key {self.coordinator[:16]}")
        try:
            return Receipt.model_validate_json(self.body)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"receipt: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def sign_receipt(key: SiteKey, receipt: Receipt) -> SignedReceipt:
    """Sign with the coordinator's witness key."""
    body = receipt.model_dump_json()
    return SignedReceipt(coordinator=key.public_hex, body=body, signature=key.sign(body.encode()).hex())
