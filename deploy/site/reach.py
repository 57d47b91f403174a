"""Whether a site reaches its coordinator: TLS with the invitation's authority, and a key that is registered."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import RunFailed
from deploy.federation.address import Address
from deploy.federation.gate import REFUSED_KEY
from deploy.federation.node_keys import load_node_key

__all__ = ["Reached", "reach"]

_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Reached:
    """A coordinator that answered."""

    registered: bool
    """Whether it knows the node's key."""


def reach(coordinator: Address, authority: Path, key: Path) -> Reached:
    """Ask the coordinator for its health, and whether it takes requests of the node's key.

    Raises:
        RunFailed: it does not answer, or is not who the invitation says.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise RunFailed(f"{authority}: no certificate can be read from it ({error})") from error
    _ask(coordinator, "/health", context, {})
    named = {"flwr-public-key": base64.b64encode(load_node_key(key).pem).decode()}
    return Reached(registered=_ask(coordinator, "/v1/fleet/", context, named) != REFUSED_KEY)


def _ask(coordinator: Address, path: str, context: ssl.SSLContext, headers: dict[str, str]) -> int | None:
    """The error code of an answer that is a refusal of ours; None for any other answer."""
    request = urllib.request.Request(f"https://{coordinator}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context):
            return None
    except urllib.error.HTTPError as error:
        return _code(error.read(1000))
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise RunFailed(
                f"{coordinator}: its certificate is not of the invitation's authority "
                f"({error.reason.verify_message}); somebody else answers there, or the invitation is an old one"
            ) from error
        raise RunFailed(
            f"{coordinator}: does not answer ({error.reason}); is the coordinator running, and may this machine "
            "open connections to that port?"
        ) from error
    except OSError as error:
        raise RunFailed(f"{coordinator}: does not answer ({error})") from error


def _code(body: bytes) -> int | None:
    try:
        found = json.loads(body)
        return int(found["code"])
    except (ValueError, KeyError, TypeError):
        return None
