"""The coordinators that a guard serves, and what they have witnessed of its ledger since it started (PRIVACY P8).

A guard that was told of no coordinator serves without: in a test, or on one machine where nobody else keeps heads.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

from common.errors import PolicyRefusal
from common.files import append_line
from common.privacy.ledger.details import Head
from common.privacy.ledger.receipt import SignedReceipt

__all__ = ["Witnesses"]

_log = logging.getLogger("hanse.guard")


class Witnesses:
    """Takes in signed receipts and remembers the newest head of each coordinator."""

    def __init__(self, coordinators: Mapping[str, str], receipts: Path) -> None:
        """Draw this start's nonce.

        Args:
            coordinators: federation's name by witness key, of every federation that the site joined.
            receipts: file to which every new receipt is appended, for the site to show to an auditor.
        """
        self.nonce = secrets.token_hex(16)
        self._coordinators = dict(coordinators)
        self._receipts = receipts
        self._heads: dict[str, Head | None] = {}
        self._kept: dict[str, str] = {}

    @property
    def heads(self) -> Mapping[str, Head | None]:
        """The newest head that each coordinator has told of since the start; None where it never saw any."""
        return dict(self._heads)

    def take(self, signed: SignedReceipt | None, site: str, run: str) -> str:
        """Check a receipt, store it, and return who signed it: the name that the ledger knows a coordinator by.

        "" where this guard serves without coordinators.

        Raises:
            PolicyRefusal: there is none, a stranger signed it, or it is for another site, run or start.
            BadInput: the signature does not verify.
        """
        if not self._coordinators:
            return ""
        if signed is None:
            raise PolicyRefusal(
                "receipt: the request carries none; a coordinator first says what it has witnessed"
            )
        if signed.coordinator not in self._coordinators:
            raise PolicyRefusal(
                f"receipt: signed by {signed.coordinator[:16]}, whose federation this site has not joined"
            )
        receipt = signed.opened()
        for field, value, own in (
            ("site", receipt.site, site),
            ("run", receipt.run, run),
            ("nonce", receipt.nonce, self.nonce),
        ):
            if value != own:
                raise PolicyRefusal(f"receipt: {field} = {value[:40]!r}: is not {own!r}; describe the site again")
        if self._kept.get(signed.coordinator) != signed.body:
            append_line(self._receipts, signed.model_dump())
            self._kept[signed.coordinator] = signed.body
        self._heads[signed.coordinator] = receipt.head
        return signed.coordinator
