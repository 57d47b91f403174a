"""Canonical JSON: the examples of RFC 8785, and one form for each value."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.privacy.ledger.canonical import LARGEST_WHOLE, canonical, parse

# RFC 8785, appendix B: IEEE 754 bits and their serialisation.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "written"), NUMBERS)
def test_numbers_are_written_as_the_rfc_says(bits: str, written: str) -> None:
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical(value) == written.encode()


def test_the_rfc_s_example_object() -> None:
    """RFC 8785, sections 3.2.2 and 3.2.4."""
    given_ = json.loads(
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r'"string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
    )
    assert canonical(given_) == wanted.encode()


def test_keys_are_sorted_by_utf16() -> None:
    """RFC 8785, section 3.2.3."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = json.loads(canonical(dict.fromkeys(keys, 0)))
    assert list(found) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST_WHOLE, LARGEST_WHOLE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_what_is_written_reads_back_equal_and_in_one_form(value: object) -> None:
    written = canonical(value)
    assert parse(written) == value
    assert canonical(parse(written)) == written


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, {1: 2}, {"a", "b"}, "\ud800", {"\udc00": 1}, b"x", object()]
)
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="canonical JSON"):
        canonical(value)


DEEP = b"[" * 3000 + b"]" * 3000


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b'{"a":1,"a":1}', b'{"b":1,"a":1}', b"1.0", b"1e2", b"NaN", b"Infinity", b"1e999", b" 1"),
        *(b"1\n", b"-0", b'"\\u0061"', b'"\\/"', b"\xff", b"\xef\xbb\xbf1", b'"\\ud800"', b"9007199254740993"),
        *(DEEP, b"[" * 66 + b"]" * 66, b'"' + b"a" * 2**16 + b'"', b"9" * 5000),
    ],
)
def test_other_bytes_are_refused_without_a_traceback(data: bytes) -> None:
    with pytest.raises(BadInput, match="canonical JSON"):
        parse(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = parse(data)
    except BadInput:
        return
    assert canonical(value) == data
