"""Who is let in, and with which headers; how much a request may hold."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from common.errors import BadInput
from deploy.pages.access import CONTENT_SECURITY_POLICY, Guarded, new_token, within_size
from deploy.pages.serving import bound_socket

TOKEN = "secret"


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(**arguments: str) -> TestClient:
    """A browser at the page's own address."""
    app = Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST"])])
    return TestClient(
        Guarded(within_size(app, 1000), TOKEN), **({"base_url": "http://127.0.0.1:8000"} | arguments)
    )


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/?token=secret", {}, 200),
        ("/", {"authorization": "Bearer secret"}, 200),
        ("/?token=secret", {"origin": "http://127.0.0.1:8000"}, 200),
        ("/static/style.css", {}, 200),
        ("/", {}, 401),
        ("/?token=", {}, 401),
        ("/?token=secre", {}, 401),
        ("/?token=secret%20", {}, 401),
        ("/?token=%C3%A9", {}, 401),
        ("/", {"authorization": "Basic secret"}, 401),
        ("/", {"authorization": "Bearer wrong"}, 401),
        ("/", {"cookie": "token=secret"}, 401),
        ("/?token=secret", {"origin": "http://elsewhere.example"}, 403),
        ("/?token=secret", {"origin": "null"}, 403),
        ("/?token=secret", {"host": "rebound.example:8000"}, 400),
        ("/?token=secret", {"host": "127.0.0.1.rebound.example"}, 400),
        ("/static/style.css", {"host": "rebound.example"}, 400),
    ],
)
def test_only_the_token_from_this_machine_gets_in(path: str, headers: dict[str, str], status: int) -> None:
    answer = client().get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


def test_tokens_are_long_and_new() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 24


def test_large_bodies_are_refused_before_they_are_read() -> None:
    assert client().post("/?token=secret", content=b"x" * 1000).text == "1000"
    assert client().post("/?token=secret", content=b"x" * 1001).status_code == 413
    assert client().post("/?token=secret", headers={"content-length": "-1"}, content=b"").status_code == 413


def test_large_bodies_without_a_length_are_cut_off() -> None:
    with pytest.raises(Exception, match=r"^$|disconnect"):  # as if the other side had hung up
        client().post("/?token=secret", content=iter([b"x" * 600, b"x" * 600]))


def test_a_taken_port_is_told() -> None:
    with bound_socket(0) as taken, pytest.raises(BadInput, match=r"--port \d+: Address already in use"):
        bound_socket(taken.getsockname()[1])
