"""A trained model as a small HTTP service: predictions, explanations, feedback. Importing it imports no torch."""

from __future__ import annotations

__all__: list[str] = []
