"""How much may be asked, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LARGEST_BODY", "LONGEST_TEXT", "MOST_TEXTS", "RateLimit"]

LONGEST_TEXT = 20_000
"""Characters of a text; the model reads 512 tokens of it."""
MOST_TEXTS = 256
"""Texts of one batch request."""
LARGEST_BODY = 4 << 20
"""Bytes of a request."""


class RateLimit:
    """A bucket that fills at ``rate`` texts a second and holds ``burst``; a request takes what it asks for."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin full."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._last = burst, clock()

    def wait(self, texts: int) -> float:
        """Take room for ``texts``: 0. Without room take nothing: the seconds until there would be."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._last) * self._rate)
        self._last = now
        if texts <= self._level:
            self._level -= texts
            return 0.0
        return (texts - self._level) / self._rate
