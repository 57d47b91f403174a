"""One value, one sequence of bytes: the JSON Canonicalization Scheme (RFC 8785).

Values are null, booleans, whole numbers up to 2^53 - 1 in size, finite floats, strings without lone
surrogates, lists, and objects with string keys. A float is written as ECMAScript writes it (RFC 8785,
section 3.2.2.3): the shortest digits that read back equal, so 1.0 is written ``1`` and is the same value as
the whole number 1, and a negative zero is ``0``. Keys are sorted by UTF-16 code units.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import NoReturn, TypeAlias

from common.errors import BadInput

__all__ = ["LARGEST_WHOLE", "LONGEST_TEXT", "Json", "canonical", "parse"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A JSON value."""

LARGEST_WHOLE = 2**53 - 1
"""Largest whole number that every JSON reader keeps exactly (RFC 7493)."""

LONGEST_TEXT = 2**16
"""Bytes of the longest text that ``parse`` looks at."""

_DEEPEST = 64


def canonical(value: object) -> bytes:
    """The canonical bytes of a value; raises ``BadInput`` for one that has none."""
    try:
        return _text(value, 0).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput("canonical JSON: a string holds half a surrogate pair") from error


def parse(data: bytes) -> Json:
    """The value that canonical bytes stand for; raises ``BadInput`` unless they are exactly canonical."""
    if len(data) > LONGEST_TEXT:
        raise BadInput(f"canonical JSON: {len(data)} bytes: at most {LONGEST_TEXT} are read")
    try:
        value: Json = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise BadInput(f"canonical JSON: not JSON ({type(error).__name__})") from error
    if canonical(value) != data:
        raise BadInput("canonical JSON: the bytes are JSON, but not in canonical form")
    return value


def _text(value: object, depth: int) -> str:
    if depth > _DEEPEST:
        raise BadInput(f"canonical JSON: nested more than {_DEEPEST} deep")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            if abs(value) > LARGEST_WHOLE:
                raise BadInput("canonical JSON: a whole number beyond 2^53 - 1")
            return str(int(value))
        case float():
            return _float(value)
        case str():
            return json.dumps(str(value), ensure_ascii=False)
        case list() | tuple():
            return "[" + ",".join(_text(item, depth + 1) for item in value) + "]"
        case Mapping():
            return "{" + ",".join(_members(value, depth)) + "}"
        case _:
            raise BadInput(f"canonical JSON: a {type(value).__name__} has no JSON form")


def _members(value: Mapping[object, object], depth: int) -> list[str]:
    keys = [key for key in value if isinstance(key, str)]
    if len(keys) != len(value):
        raise BadInput("canonical JSON: a key is not a string")
    ordered = sorted(keys, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return [f"{json.dumps(key, ensure_ascii=False)}:{_text(value[key], depth + 1)}" for key in ordered]


def _float(value: float) -> str:
    """ECMAScript's Number::toString (ECMA-262, section 6.1.6.1.20); ``repr`` gives the shortest digits."""
    if not math.isfinite(value):
        raise BadInput(f"canonical JSON: {value} is not a number of JSON")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    _, figures, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = int(exponent) + len(digits)
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _whole(digits: str) -> int | float:
    """A float that happens to be whole and large is written without a point, and is read as a float again."""
    number = float(digits)
    return int(digits) if abs(number) <= LARGEST_WHOLE else number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
