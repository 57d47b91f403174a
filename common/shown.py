"""How a message shows a value of a source: never a text; a label or column name only if it is one short word."""

from __future__ import annotations

import json

__all__ = ["LONGEST_SHOWN", "shown"]

LONGEST_SHOWN = 24


def shown(value: object) -> str:
    """Write a value as a message may show it: one short word, or else only its kind and length."""
    if isinstance(value, str):
        if len(value) <= LONGEST_SHOWN and len(value.split()) == 1:
            return json.dumps(value, ensure_ascii=not value.isprintable())
        return f"({len(value)} characters)" if value.strip() else "(empty)"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        written = str(value)
        return written if len(written) <= LONGEST_SHOWN else "(a long number)"
    return "(nothing)" if value is None else f"({type(value).__name__})"
