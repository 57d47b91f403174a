"""A site's two Flower processes, as they are planned; ``test_end_to_end`` runs them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import BadInput
from deploy.federation.address import Address
from deploy.federation.flower_environment import flower_environment
from deploy.federation.supernode import SuperNodeSettings, supernode_plans

SITE = Path("/srv/clinic")
SETTINGS = SuperNodeSettings(
    coordinator=Address("fl.example.org", 8443),
    authority=SITE / "ca.crt",
    key=SITE / "node.key",
    secret=SITE / "superexec.secret",
    home=SITE / "flower",
    logs=SITE / "logs",
    port=19094,
)


def test_the_node_trusts_one_authority_and_its_own_executor() -> None:
    node, executor = supernode_plans(SETTINGS)
    assert node.name == "supernode"
    assert "--insecure" not in node.arguments  # the way to the coordinator
    assert node.arguments[node.arguments.index("--root-certificates") + 1] == str(SITE / "ca.crt")
    assert node.arguments[node.arguments.index("--host") + 1] == "127.0.0.1"
    for plan in (node, executor):
        assert plan.arguments[plan.arguments.index("--superexec-auth-secret-file") + 1] == str(SETTINGS.secret)
        assert plan.environment["FLWR_HOME"] == str(SITE / "flower")


@example("\x7f", 0)
@given(st.text(max_size=40), st.integers(-5, 5))
def test_flower_reads_the_configuration_as_it_was_meant(guard: str, partition: int) -> None:
    """Through Flower's own parser: any text comes out as it went in, or is refused."""
    from flwr.common.config import parse_config_args

    settings = dataclasses.replace(SETTINGS, config={"guard": guard, "partition-id": partition})
    try:
        arguments = supernode_plans(settings)[0].arguments
    except BadInput:
        return
    line = arguments[arguments.index("--node-config") + 1]
    assert parse_config_args([line]) == {"guard": guard, "partition-id": partition}


@pytest.mark.parametrize("guard", ['/a"b', "/a\\b", "/a\nb", "/a\x00b"])
def test_what_flower_would_misread_is_refused(guard: str) -> None:
    with pytest.raises(BadInput, match="guard"):
        supernode_plans(dataclasses.replace(SETTINGS, config={"guard": guard}))


def test_a_free_port_is_taken_where_none_is_named() -> None:
    node, executor = supernode_plans(dataclasses.replace(SETTINGS, port=0))
    port = node.arguments[node.arguments.index("--port") + 1]
    assert int(port) > 0
    assert f"127.0.0.1:{port}" in executor.arguments


def test_flower_inherits_no_setting_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open gRPC port, a foreign account plugin, or a proxy that may name any peer: none is let through."""
    for name in ("FLWR_INTERNAL_GRPC_FLEET_API", "FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_OIDC_ENABLED"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    environment = flower_environment(SITE, HANSE_FEDERATION="here")
    ours = {name for name in environment if name.startswith("FLWR_")}
    assert ours == {
        "FLWR_HOME",
        "FLWR_TELEMETRY_ENABLED",
        "FLWR_DISABLE_UPDATE_CHECK",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION",
    }
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert "FORWARDED_ALLOW_IPS" not in environment
    assert environment["HTTPS_PROXY"] == "kept"
    assert environment["HANSE_FEDERATION"] == "here"
