"""Addresses as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from deploy.federation.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("fl.example.org:8443", "fl.example.org", 8443, False),
        ("FL.Example.org.:1", "fl.example.org", 1, False),
        ("10.0.0.7:65535", "10.0.0.7", 65535, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("localhost:80", "localhost", 80, True),
        ("[2001:db8::1]:8443", "2001:db8::1", 8443, False),
        ("[::1]:8443", "::1", 8443, True),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int, loopback: bool) -> None:
    parsed = parse_address(text)
    assert (parsed.host, parsed.port, parsed.is_loopback) == (host, port, loopback)
    assert parse_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":80", "host:0", "host:65536", "host:8x", "host:²", "2001:db8::1:80", "a b:80",
     "-a.org:80", "a..org:80", "0.0.0.0:80", "[::]:80", "https://a.org:80", "a.org:80/x", "a\nb:80"],
)  # fmt: skip
def test_what_no_site_could_connect_to_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(parse_address(text), Address)
