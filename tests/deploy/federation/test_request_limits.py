"""What one peer may ask, and how much of it is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.federation import request_limits
from deploy.federation.request_limits import BURST, REQUESTS_A_SECOND, RequestRate, announced_size, bounded


def test_a_burst_is_answered_and_what_comes_back_is_the_rate() -> None:
    now = [0.0]
    rate = RequestRate(lambda: now[0])
    assert all(rate.allows(b"key", "host") for _ in range(int(BURST)))
    assert not rate.allows(b"key", "host")
    now[0] += 1.0
    assert sum(rate.allows(b"key", "host") for _ in range(1000)) == REQUESTS_A_SECOND
    now[0] += 1e6
    assert sum(rate.allows(b"key", "host") for _ in range(int(BURST) + 50)) == BURST


def test_what_is_remembered_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "_MOST_PEERS", 10)
    rate = RequestRate(lambda: 0.0)
    for number in range(1000):
        assert rate.allows(b"key", str(number))
    assert len(rate._peers) == 10


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ([], 0),
        ([(b"Content-Length", b"12")], 12),
        ([(b"content-length", b"-1")], 0),
        ([(b"content-length", b"1"), (b"content-length", b"2")], 0),
    ],
)
def test_a_size_is_what_one_header_says(headers: list[tuple[bytes, bytes]], size: int) -> None:
    assert announced_size(headers) == size


def test_a_body_that_goes_on_is_cut_off() -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"x" * 6, "more_body": True}

    async def read() -> list[str]:
        counted = bounded(receive, most=12)
        return [(await counted())["type"] for _ in range(4)]

    assert asyncio.run(read()) == ["http.request", "http.request", "http.disconnect", "http.disconnect"]
