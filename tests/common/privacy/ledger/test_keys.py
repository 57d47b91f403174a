"""Keys and private files: Ed25519, 0700 and 0600."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.errors import BadInput
from common.privacy.ledger.keys import (
    SiteKey,
    check_private,
    create_site_key,
    load_site_key,
    private_folder,
    public_key_from_hex,
    signature_is_valid,
    write_private,
)


def test_the_rfc_s_first_vector() -> None:
    """RFC 8032, section 7.1, test 1: the empty message."""
    key = SiteKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_hex == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f")


def test_a_key_is_kept_and_signs(tmp_path: Path) -> None:
    made = create_site_key(tmp_path / "site" / "key.pem")
    loaded = load_site_key(tmp_path / "site" / "key.pem")
    public = public_key_from_hex(made.public_hex)
    assert loaded.public_hex == made.public_hex
    assert signature_is_valid(public, loaded.sign(b"x"), b"x")
    assert not signature_is_valid(public, loaded.sign(b"x"), b"y")
    assert made.pem().decode() not in repr(made)
    with pytest.raises(BadInput, match="exists already"):
        create_site_key(tmp_path / "site" / "key.pem")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_p22_folder_and_file_are_their_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "site" / "key.pem"
    create_site_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(BadInput, match=r"mode 640: .* chmod 600"):
        load_site_key(path)
    path.parent.chmod(0o755)
    with pytest.raises(BadInput, match=r"mode 755: .* chmod 700"):
        private_folder(path.parent)
    with pytest.raises(BadInput, match="cannot be read"):
        check_private(tmp_path / "nothing")


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    pem = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for place, data in enumerate([b"", b"nonsense", pem]):
        path = tmp_path / "site" / f"{place}.pem"
        write_private(path, data)
        with pytest.raises(BadInput, match="Ed25519 key"):
            load_site_key(path)
    with pytest.raises(BadInput, match="64 lower-case"):
        public_key_from_hex("A" * 64)
