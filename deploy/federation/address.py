"""The coordinator's network address, ``host:port``, as people write it."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from common.errors import BadInput

__all__ = ["Address", "AddressText", "free_port", "parse_address", "parse_host"]

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_LONGEST_NAME = 253
"""Characters of a host name (RFC 1035)."""


@dataclass(frozen=True)
class Address:
    """Where the sites reach the coordinator."""

    host: str
    """A host name or an IP address, without brackets."""
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parse_address(text: str) -> Address:
    """Read ``host:port``; an IPv6 address stands in brackets.

    Raises:
        BadInput: it is something else, or an address that means "any", which no site could reach.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise BadInput(f"address {text}: must be HOST:PORT, such as fl.example.org:8443 or [2001:db8::1]:8443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadInput(f"address {text}: write an IPv6 address in brackets, as [{host}]:{port}")
    return Address(parse_host(host), int(port))


def parse_host(host: str) -> str:
    """Check a host name or an IP address; raises ``BadInput``."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
            raise BadInput(f"host {host or '(empty)'}: must be a host name or an IP address") from None
        return host.removesuffix(".").lower()
    if parsed.is_unspecified or parsed.is_multicast:
        raise BadInput(f"host {host}: must be the address that the sites connect to, not one to listen on")
    return str(parsed)


def _checked(text: str) -> str:
    try:
        return str(parse_address(text))
    except BadInput as error:
        raise ValueError(str(error)) from error


AddressText: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""An address as a field of a pydantic model, in canonical form."""
