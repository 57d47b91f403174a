"""Amounts of money as people write them, to whole cents and back; never through floats."""

from __future__ import annotations

import re
from fractions import Fraction

from common.errors import BadInput

__all__ = ["cents_of", "in_units", "rate_of"]

_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,2})?")
_RATE = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")


def cents_of(text: str, where: str) -> int:
    """Whole cents of an amount such as ``1200`` or ``1200.50``; raises ``BadInput`` that names ``where``."""
    if not _AMOUNT.fullmatch(text):
        raise BadInput(f"{where} = {text}: must be an amount such as 1200 or 1200.50")
    return int(Fraction(text) * 100)


def rate_of(text: str, where: str) -> Fraction:
    """Cents for one unit of something, of an amount with up to twelve decimals; exact."""
    if not _RATE.fullmatch(text):
        raise BadInput(f"{where} = {text}: must be an amount such as 0.27")
    return Fraction(text) * 100


def in_units(cents: int) -> str:
    """Cents as an amount with two decimals: 120050 is ``1200.50``."""
    return f"{cents // 100}.{cents % 100:02d}"
