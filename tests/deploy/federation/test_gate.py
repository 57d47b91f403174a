"""Who may ask the coordinator's server for what. The whole server is asked in ``test_end_to_end``."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadInput, RunFailed
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.gate import Gate, TokenAuthentication
from deploy.federation.node_keys import NodePublicKey, create_node_key
from deploy.federation.request_limits import LARGEST_BODY
from deploy.federation.superlink_process import guard_flower, superlink_arguments

HERE, ELSEWHERE = ("127.0.0.1", 5000), ("203.0.113.9", 5000)


@pytest.fixture
def key(federation: CoordinatorDirectory, tmp_path: Path) -> NodePublicKey:
    public = create_node_key(tmp_path / "site" / "node.key")
    federation.registry.register("clinic", public)
    return public


def _ask(
    gate: Gate, path: str, client: tuple[str, int] | None = ELSEWHERE, keys: list[bytes] | None = None, **more: Any
) -> int:
    """The status that a request gets; 200 is what the application behind the gate answers."""
    statuses: list[int] = []

    async def receive() -> Any:
        raise AssertionError("a refused request's body is not read")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"flwr-public-key", base64.b64encode(value)) for value in keys or []]
    scope = {"type": "http", "path": path, "client": client, "server": ("10.0.0.1", 8443), "headers": headers}
    asyncio.run(gate(scope | more, receive, send))
    return statuses[0]


async def _open(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def gate(federation: CoordinatorDirectory) -> Gate:
    return Gate(_open, federation.registry)


@pytest.mark.parametrize(
    "path",
    ["/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task", "/docs", "/openapi.json",
     "/v1/responses", "/", "/v1/fleet", "/v1/Fleet/pull-messages", "//v1/control/start-run", "/healthy"],
)  # fmt: skip
def test_from_elsewhere_only_fleet_and_health_exist(gate: Gate, path: str) -> None:
    assert _ask(gate, path) == 404
    assert _ask(gate, path, client=None) == 404


@pytest.mark.parametrize("client", [HERE, ("::1", 5000), ("10.0.0.1", 5000)])
def test_this_machine_reaches_the_rest(gate: Gate, client: tuple[str, int]) -> None:
    assert _ask(gate, "/v1/control/start-run", client=client) == 200


def test_everyone_may_ask_for_its_health(gate: Gate) -> None:
    assert _ask(gate, "/health") == 200


def test_fleet_is_for_registered_keys(gate: Gate, key: NodePublicKey, tmp_path: Path) -> None:
    stranger = create_node_key(tmp_path / "stranger" / "node.key")
    for client in (HERE, ELSEWHERE):
        assert _ask(gate, "/v1/fleet/pull-messages", client, [key.pem]) == 200
        assert _ask(gate, "/v1/fleet/pull-messages", client, [stranger.pem]) == 410
        assert _ask(gate, "/v1/fleet/pull-messages", client) == 410
        assert _ask(gate, "/v1/fleet/pull-messages", client, [key.pem, stranger.pem]) == 410
        assert _ask(gate, "/v1/fleet/pull-messages", client, headers=[(b"flwr-public-key", b"%%")]) == 410


def test_a_change_of_the_list_holds_for_the_next_request(
    gate: Gate, key: NodePublicKey, federation: CoordinatorDirectory
) -> None:
    assert _ask(gate, "/v1/fleet/activate-node", keys=[key.pem]) == 200
    federation.registry.revoke("clinic")
    assert _ask(gate, "/v1/fleet/activate-node", keys=[key.pem]) == 410


def test_a_node_that_floods_or_sends_too_much_is_turned_away(
    gate: Gate, key: NodePublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.federation.request_limits.BURST", 3.0)
    monkeypatch.setattr("deploy.federation.request_limits.REQUESTS_A_SECOND", 0.0)
    sizes = [(b"flwr-public-key", base64.b64encode(key.pem)), (b"content-length", b"%d" % (LARGEST_BODY + 1))]
    assert _ask(gate, "/v1/fleet/push-object", headers=sizes) == 413
    assert [_ask(gate, "/v1/fleet/pull-messages", keys=[key.pem]) for _ in range(3)] == [200, 200, 429]
    assert _ask(gate, "/v1/fleet/pull-messages", HERE, [key.pem]) == 200, "another machine with the same key"


def test_a_damaged_list_lets_nobody_in(gate: Gate, key: NodePublicKey, federation: CoordinatorDirectory) -> None:
    assert _ask(gate, "/v1/fleet/activate-node", keys=[key.pem]) == 200
    (federation.path / "sites.json").write_text("{")
    with pytest.raises(BadInput):  # uvicorn answers 500
        _ask(gate, "/v1/fleet/activate-node", keys=[key.pem])


def test_control_wants_the_token() -> None:
    authentication = TokenAuthentication("secret")
    assert authentication.validate_tokens_in_metadata([("flwr-access-token", "secret")])[0]
    for metadata in ([], [("flwr-access-token", "")], [("flwr-access-token", "secret2")], [("x", b"\xff")]):
        assert authentication.validate_tokens_in_metadata(metadata) == (False, None)


def test_flower_is_asked_for_tls_and_authentication(federation: CoordinatorDirectory) -> None:
    arguments = superlink_arguments(federation)
    assert "--enable-supernode-auth" in arguments
    assert "--insecure" not in arguments
    assert arguments[arguments.index("--isolation") + 1] == "process"


def test_a_flower_that_moved_is_not_served(
    federation: CoordinatorDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Flower no longer takes our account check, its application is never built open."""
    import importlib
    from types import SimpleNamespace

    from flwr.superlink import main

    command = importlib.import_module("flwr.superlink.cli.flower_superlink")

    def built(**state: Any) -> Any:
        return lambda *arguments: SimpleNamespace(state=SimpleNamespace(**state))

    strangers = SimpleNamespace(authn_plugin=object())
    monkeypatch.setattr(main, "create_app", built(account_access_dep=strangers, enable_supernode_auth=True))
    monkeypatch.setattr(command, "load_control_authn_plugin", lambda: None)
    guard_flower(federation)
    with pytest.raises(RunFailed, match="would serve strangers"):
        main.create_app(None, None)
    monkeypatch.delattr(command, "load_control_authn_plugin")
    with pytest.raises(RunFailed, match="cannot be guarded"):
        guard_flower(federation)
