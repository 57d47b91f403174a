"""Node keys, read by Flower's own code and by OpenSSH."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from common.errors import BadInput
from deploy.federation.node_keys import create_node_key, load_node_key, parse_public_key, read_public_key


def test_flower_reads_both_halves(tmp_path: Path) -> None:
    from flwr.cli.supernode.register import try_load_public_key
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    public = create_node_key(tmp_path / "node.key")
    private = load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)  # as flower-supernode does
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert public_key_to_bytes(private.public_key()) == public.pem
    assert try_load_public_key(tmp_path / "node.key.pub") == public.pem


def test_the_private_half_is_its_owners_alone(tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    public = create_node_key(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert load_node_key(key) == public == read_public_key(tmp_path / "node.key.pub")
    key.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        load_node_key(key)
    with pytest.raises(BadInput, match="exists already"):
        create_node_key(key)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_the_fingerprint_is_openssh_s(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "node.key")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "node.key.pub")], capture_output=True, text=True, check=True
    )
    assert public.fingerprint in shown.stdout.split()


def test_a_comment_is_dropped() -> None:
    line = _line(ec.derive_private_key(7, ec.SECP256R1())).decode()
    assert parse_public_key(f"{line} officer@site\n", "key").openssh == line


def _line(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "one line"),
        (b"ecdsa-sha2-nistp384 AAAA", "no OpenSSH public key"),
        (b"\xff\xfe", "no OpenSSH public key"),
        (_line(ed25519.Ed25519PrivateKey.generate()), "NIST curve"),
        (_line(ec.generate_private_key(ec.SECP384R1())) + b"\n" + _line(ec.generate_private_key(ec.SECP384R1())),
         "one line"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "never leave its site"),
        (b"x" * 20_000, "one OpenSSH"),
    ],
    ids=["empty", "no-key", "binary", "other-curve", "two-lines", "private", "long"],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "site.pub"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_public_key(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_public_key(tmp_path / "absent.pub")
