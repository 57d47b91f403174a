"""What is wrong with a TOML file, one line a fault: where, what stands there, and what is allowed.

Turns pydantic's errors into the words of whoever wrote the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["Wording", "faults"]

_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Wording:
    """How the faults of one kind of file are told."""

    model: type[BaseModel]
    """What the file was to become."""
    mends: Mapping[str, str]
    """pydantic's type of error to what is allowed, with the names of its context in braces."""
    secret: re.Pattern[str] | None = None
    """Parts of values that are shown as stars."""


def faults(error: ValidationError, tree: Mapping[str, Any], wording: Wording) -> list[str]:
    """A line for each fault of the file that was read as ``tree``."""
    # A value that fits no member of a union comes as one fault per member: say them as one.
    mends: dict[str, list[str]] = {}
    for item in error.errors():
        subject, mend = _fault(item, tree, wording)
        found = mends.setdefault(subject, [])
        if mend not in found:
            found.append(mend)
    return [f"{subject}: {' or '.join(found)}" for subject, found in mends.items()]


def _fault(item: Any, tree: Mapping[str, Any], wording: Wording) -> tuple[str, str]:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        location = item["loc"]
        known = _known_keys(wording.model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
        return f"{_key(location)} = {_shown(item['input'], wording)}", f"unknown key; {hint}"
    location = [part for part in item["loc"] if not _is_union_member(part)]
    if kind == "missing":
        return _key(location), "is required"
    if kind == "value_error":
        mend = str(context["error"])
    elif kind in wording.mends:
        mend = wording.mends[kind].format(**context)
    else:
        mend = str(item["msg"]).replace("Input should be", "must be")
    return f"{_key(location)} = {_shown(_value_at(tree, location, item['input']), wording)}", mend


def _key(location: Sequence[int | str]) -> str:
    return ".".join(f"{part + 1}" if isinstance(part, int) else str(part) for part in location)


def _is_union_member(part: object) -> bool:
    # pydantic puts the name of the tried member of a union behind the key
    return isinstance(part, str) and (part in {"int", "float"} or "[" in part or part.startswith("constrained-"))


def _value_at(tree: Any, location: Sequence[Any], fallback: object) -> object:
    for part in location:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return fallback
    return tree


def _shown(value: object, wording: Wording) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    if wording.secret is not None:
        text = wording.secret.sub("***", text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _known_keys(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        candidates = [field.annotation, *get_args(field.annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return sorted(model.model_fields)
