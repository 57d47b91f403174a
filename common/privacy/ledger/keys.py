"""The site's signing key: Ed25519 (RFC 8032), in a file that only its owner may read.

A key belongs to one ledger. Whoever copies it into a second one can sign two histories; coordinators and
auditors compare heads for that reason (PRIVACY P8).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from common.errors import BadInput

__all__ = [
    "SiteKey",
    "check_private",
    "create_site_key",
    "load_site_key",
    "private_folder",
    "public_key_from_hex",
    "signature_is_valid",
    "write_private",
]

_POSIX = os.name == "posix"
_LARGEST_FILE = 10_000


class SiteKey:
    """An Ed25519 private key; its ``repr`` shows the public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Hold ``private`` in memory."""
        self._private = private
        self.public_hex: str = private.public_key().public_bytes_raw().hex()
        """The public key: 64 lower-case hexadecimal digits of its 32 raw bytes."""

    @classmethod
    def from_seed(cls, seed: bytes) -> SiteKey:
        """The key of 32 secret bytes (RFC 8032, section 5.1.5)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """Signature of 64 bytes."""
        return self._private.sign(message)

    def pem(self) -> bytes:
        """The private key in PKCS #8, unencrypted: the file's permissions protect it."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"SiteKey(public={self.public_hex})"


def create_site_key(path: Path) -> SiteKey:
    """A new key in a new file (0600); raises ``BadInput`` if the file exists."""
    key = SiteKey(Ed25519PrivateKey.generate())
    write_private(path, key.pem())
    return key


def load_site_key(path: Path) -> SiteKey:
    """The key in a file; refuses one that others may read, or that holds something else."""
    check_private(path)
    try:
        private = load_pem_private_key(path.read_bytes()[:_LARGEST_FILE], password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: no Ed25519 key can be read from it") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"{path}: a {type(private).__name__}; must be an Ed25519 key")
    return SiteKey(private)


def public_key_from_hex(text: str) -> Ed25519PublicKey:
    """The public key that 64 hexadecimal digits name."""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise BadInput("public key: must be 64 lower-case hexadecimal digits")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def signature_is_valid(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` is the key's over ``message`` (RFC 8032; a non-canonical S is refused)."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def private_folder(folder: Path) -> None:
    """Make ``folder`` for its owner alone (0700), or check that it is (PRIVACY P22)."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        check_private(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror})") from error


def write_private(path: Path, data: bytes) -> None:
    """Write a new file for its owner alone (0600), synced to disk; never over an old one."""
    private_folder(path.parent)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadInput(f"{path}: exists already; nothing was written over it") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be made ({error.strerror})") from error
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def check_private(path: Path) -> None:
    """Refuse a file or folder that is missing, or open to others than its owner (PRIVACY P22)."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if _POSIX and mode & 0o077:
        mend = "700" if path.is_dir() else "600"
        raise BadInput(f"{path}: mode {mode:o}: must be its owner's alone; run chmod {mend} on it")
