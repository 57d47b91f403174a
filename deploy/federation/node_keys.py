"""Keys with which a site's SuperNode proves to the coordinator who it is.

Flower reads an elliptic-curve key on a NIST curve from an OpenSSH private-key file, and registers the public
half as PEM. People exchange the public half as one OpenSSH line, and compare fingerprints as ``ssh-keygen -l``
shows them.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.keys import check_private, write_private

__all__ = ["NodePublicKey", "create_node_key", "load_node_key", "parse_public_key", "read_public_key"]

_LARGEST_FILE: Final = 10_000


@dataclass(frozen=True)
class NodePublicKey:
    """The public half of a site's node key."""

    openssh: str
    """``ecdsa-sha2-nistp384 AAAA...``: one line without a comment."""

    @property
    def fingerprint(self) -> str:
        """``SHA256:...``, as ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.openssh.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def pem(self) -> bytes:
        """The form that Flower registers and sends."""
        loaded = load_ssh_public_key(self.openssh.encode())
        return loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def create_node_key(private: Path) -> NodePublicKey:
    """Make a key: the private half in ``private`` (0600), the public one beside it, with ``.pub`` appended.

    Raises:
        BadInput: ``private`` exists.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = _public(key.public_key())
    write_text(private.with_name(private.name + ".pub"), public.openssh + "\n")
    return public


def load_node_key(private: Path) -> NodePublicKey:
    """The public half of the private key in a file that only its owner may read; raises ``BadInput``."""
    check_private(private)
    try:
        key = load_ssh_private_key(private.read_bytes()[:_LARGEST_FILE], password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{private}: no OpenSSH private key can be read from it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{private}: must be an elliptic-curve key, as Hanse makes it")
    return _public(key.public_key())


def read_public_key(path: Path) -> NodePublicKey:
    """The public key in a ``.pub`` file; raises ``BadInput``."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if b"PRIVATE KEY" in data:
        raise BadInput(f"{path}: is a private key, which must never leave its site; give the .pub file beside it")
    try:
        return parse_public_key(data.decode("ascii"), str(path))
    except UnicodeDecodeError:
        raise BadInput(f"{path}: holds no OpenSSH public key") from None


def parse_public_key(text: str, where: str) -> NodePublicKey:
    """The public key in one OpenSSH line, its comment dropped; ``where`` names it in ``BadInput``."""
    lines = text.strip().splitlines()
    if len(lines) != 1 or len(text) > _LARGEST_FILE:
        raise BadInput(f"{where}: must hold one OpenSSH public key on one line")
    try:
        key = load_ssh_public_key(lines[0].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{where}: holds no OpenSSH public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):  # OpenSSH has NIST curves only, all of which Flower takes
        raise BadInput(f"{where}: must be an ecdsa key on a NIST curve; make one with ssh-keygen -t ecdsa -b 384")
    return _public(key)


def _public(key: ec.EllipticCurvePublicKey) -> NodePublicKey:
    return NodePublicKey(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
