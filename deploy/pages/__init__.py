"""What the pages of `hanse dashboard` and `hanse serve` share: who may read them, and how they are served."""

from __future__ import annotations

__all__: list[str] = []
