"""The coordinator's folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from common.errors import BadInput
from common.study import Study
from deploy.federation.certificates import read_certificate
from deploy.federation.coordinator_directory import CoordinatorDirectory, create_federation, open_federation


def test_everything_in_it_is_its_owners_alone(federation: CoordinatorDirectory) -> None:
    assert stat.S_IMODE(federation.path.stat().st_mode) == 0o700
    for folder, folders, names in os.walk(federation.path):
        for name in folders:
            assert stat.S_IMODE(Path(folder, name).stat().st_mode) == 0o700, name
        for name in names:
            if name != "study.toml":  # public, and in a folder that is closed
                assert stat.S_IMODE(Path(folder, name).stat().st_mode) == 0o600, name


def test_it_is_opened_again(federation: CoordinatorDirectory, two_sites: Study) -> None:
    again = open_federation(federation.path)
    assert again.federation().name == "north"
    assert again.read_study() == two_sites
    assert len(again.witness_key().public_hex) == 64
    assert again.witness_key().public_hex == federation.witness_key().public_hex
    assert not again.renew_certificate()


@pytest.mark.parametrize(
    ("address", "listen", "local"),
    [
        ("fl.example.org:8443", "0.0.0.0", "127.0.0.1:8443"),
        ("10.0.0.1:8443", "0.0.0.0", "127.0.0.1:8443"),
        ("[2001:db8::1]:8443", "::", "[::1]:8443"),
        ("127.0.0.1:8443", "127.0.0.1", "127.0.0.1:8443"),
        ("localhost:8443", "127.0.0.1", "127.0.0.1:8443"),
    ],
)
def test_it_listens_where_its_address_needs_it(tmp_path: Path, address: str, listen: str, local: str) -> None:
    directory = create_federation(tmp_path / "made", "north", address)
    settings = directory.federation()
    assert (settings.listen, str(settings.local_address)) == (listen, local)
    assert settings.parsed_address.host in read_certificate(directory.server[1]).hosts
    assert settings.local_address.host in read_certificate(directory.server[1]).hosts


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("kept")
    with pytest.raises(BadInput, match="not an empty folder"):
        create_federation(tmp_path / "used", "north", "127.0.0.1:8443")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]
    for name, address in (("a b", "127.0.0.1:8443"), ("north", "127.0.0.1")):
        with pytest.raises(BadInput):
            create_federation(tmp_path / "new", name, address)
    assert not (tmp_path / "new").exists()


def test_what_is_no_federation_is_said_so(federation: CoordinatorDirectory, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="hanse federation init"):
        open_federation(tmp_path)
    federation.path.chmod(0o755)
    with pytest.raises(BadInput, match="chmod 700"):
        open_federation(federation.path)
    federation.path.chmod(0o700)
    for text in ("", "name = 3", 'name = "n"\nmore = 1', "name ="):
        federation.settings.write_text(text)
        with pytest.raises(BadInput, match=r"federation\.toml"):
            open_federation(federation.path)


def test_a_secret_that_others_can_read_is_not_used(federation: CoordinatorDirectory) -> None:
    assert len(federation.secret(federation.control_token)) == 64
    federation.control_token.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        federation.secret(federation.control_token)
