"""A site's two Flower processes: the SuperNode, which talks to the coordinator, and its SuperExec.

The SuperExec starts a ClientApp process for each message. It and the SuperNode meet on a loopback port behind a
shared secret; in Flower's simpler mode, where the SuperNode starts it itself, any user of the machine could take
a message from that port and answer in the site's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.errors import BadInput
from deploy.federation.address import Address, free_port
from deploy.federation.flower_environment import flower_environment
from deploy.federation.processes import BackOff, ChildPlan

__all__ = ["SuperNodeSettings", "supernode_plans"]

_SAFE: Final = re.compile(r'[^"\\\x00-\x1f\x7f]*')
"""What Flower's own parser of a node's configuration takes between quotes."""

_BACK_OFF: Final = BackOff(first=2.0, most=15.0)
"""A killed node is refused until the coordinator notices, a minute later; then it should be back soon."""


@dataclass(frozen=True)
class SuperNodeSettings:
    """What a site's node needs; every path in folders that only the site can read."""

    coordinator: Address
    authority: Path
    """The certificate from the invitation: the only one that is trusted."""
    key: Path
    """The node's private key."""
    secret: Path
    """Shared with the SuperExec: at least 32 random bytes, as they are."""
    home: Path
    """Flower's home."""
    logs: Path
    config: Mapping[str, str | int] = field(default_factory=dict)
    """``context.node_config`` of the ClientApp, as ``{"guard": "/path/to/socket"}``."""
    port: int = 0
    """Loopback port where the two meet; 0 takes a free one."""


def supernode_plans(settings: SuperNodeSettings) -> list[ChildPlan]:
    """Both processes, in the order in which they start. A node that is refused is started again with back-off.

    Raises:
        BadInput: a value of ``config`` holds a character that Flower's parser would misread.

    """
    port = settings.port or free_port()
    environment = flower_environment(settings.home)
    node = [
        *("--superlink", str(settings.coordinator), "--root-certificates", str(settings.authority)),
        *("--auth-supernode-private-key", str(settings.key)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(settings.secret)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    if settings.config:
        node += ["--node-config", _node_config(settings.config)]
    executor = [
        *("--runtime-api-address", f"127.0.0.1:{port}", "--insecure"),  # loopback, and the secret guards it
        *("--superexec-auth-secret-file", str(settings.secret)),
    ]
    return [
        ChildPlan(
            "supernode",
            "flwr.supernode.cli.flower_supernode",
            "flower_supernode",
            node,
            environment,
            settings.logs / "supernode.log",
            back_off=_BACK_OFF,
        ),
        ChildPlan(
            "superexec",
            "flwr.supercore.cli.flower_superexec",
            "flower_superexec",
            executor,
            environment,
            settings.logs / "superexec.log",
        ),
    ]


def _node_config(config: Mapping[str, str | int]) -> str:
    words = []
    for name, value in config.items():
        if isinstance(value, int):
            words.append(f"{name}={value}")
        elif _SAFE.fullmatch(value):
            words.append(f'{name}="{value}"')
        else:
            raise BadInput(f"{name} = {value!r}: must hold no quote, backslash or control character")
    return " ".join(words)
