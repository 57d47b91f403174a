"""Invitations: whole and true, or refused."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import BadInput
from common.study import Study
from deploy.federation.certificates import create_authority
from deploy.federation.coordinator_directory import CoordinatorDirectory, create_federation
from deploy.federation.invitation import LARGEST_INVITATION, read_invitation, write_invitation

Members = dict[str, bytes]


@pytest.fixture
def bundle(federation: CoordinatorDirectory, tmp_path: Path) -> Path:
    path = tmp_path / "clinic.zip"
    write_invitation(federation, "clinic", path)
    return path


def _unpack(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _pack(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_site_reads_what_the_coordinator_wrote(
    federation: CoordinatorDirectory, bundle: Path, two_sites: Study
) -> None:
    read = read_invitation(bundle)
    assert read.manifest.site == "clinic"
    assert read.manifest.federation == "north"
    assert str(read.address) == federation.federation().address
    assert read.manifest.witness_key == federation.witness_key().public_hex
    assert read.authority == federation.authority[1].read_bytes()
    assert read.study() == two_sites
    assert len(read.fingerprint) == 64


def test_no_secret_travels(federation: CoordinatorDirectory, bundle: Path) -> None:
    """Neither a key nor a token of the coordinator's folder is in it, as text or as raw bytes."""
    content = b"".join(_unpack(bundle).values()) + bundle.read_bytes()
    assert b"PRIVATE" not in content
    for secret in (federation.control_token, federation.superexec_secret):
        assert secret.read_bytes() not in content
    for key in (federation.authority[0], federation.server[0], federation.witness_key_file):
        # The first line of base64 holds the secret number; the last may hold the public key, which travels.
        assert key.read_bytes().splitlines()[1] not in content


def test_without_a_study_nobody_is_invited(tmp_path: Path) -> None:
    directory = create_federation(tmp_path / "made", "north", "127.0.0.1:8443")
    with pytest.raises(BadInput, match="no study yet"):
        write_invitation(directory, "clinic", tmp_path / "clinic.zip")
    assert not (tmp_path / "clinic.zip").exists()


def test_a_site_needs_a_name(federation: CoordinatorDirectory, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be 1 to 64"):
        write_invitation(federation, "../clinic", tmp_path / "clinic.zip")


def _other_authority(members: Members, folder: Path) -> None:
    create_authority(folder / "x" / "ca.key", folder / "x" / "ca.crt", "evil")
    members["ca.crt"] = (folder / "x" / "ca.crt").read_bytes()


def _other_study(members: Members, folder: Path) -> None:
    members["study.toml"] = members["study.toml"].replace(b"epsilon = 8.0", b"epsilon = 9.0")


def _manifest(**changes: object) -> Callable[[Members, Path], None]:
    def change(members: Members, folder: Path) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | changes).encode()

    return change


def _without(name: str) -> Callable[[Members, Path], None]:
    return lambda members, folder: members.__delitem__(name)


def _with(name: str, data: bytes) -> Callable[[Members, Path], None]:
    return lambda members, folder: members.__setitem__(name, data)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_other_authority, "not the one that the manifest names"),
        (_other_study, "not the one that the manifest names"),
        (_without("study.toml"), "no invitation"),
        (_without("manifest.json"), "no invitation"),
        (_with("../../etc/cron.d/x", b"x"), "no invitation"),
        (_with("site.key", b"x"), "no invitation"),
        (_with("manifest.json", b"{"), "manifest"),
        (_with("manifest.json", b"x" * 30_000), "unpacks to more"),
        (_with("study.toml", b"0" * 60_000_000), "unpacks to more"),
        (_manifest(format="hanse-invitation-2"), "format"),
        (_manifest(more=1), "more"),
        (_manifest(witness_key="00"), "witness_key"),
        (_manifest(address="0.0.0.0:1"), "address"),
        (_manifest(sha256={}), "not the one that the manifest names"),
        (_manifest(site="../x"), "site"),
    ],
)
def test_what_was_changed_is_refused(
    bundle: Path, tmp_path: Path, tamper: Callable[[Members, Path], None], message: str
) -> None:
    members = _unpack(bundle)
    tamper(members, tmp_path)
    with pytest.raises(BadInput, match=message):
        read_invitation(_pack(tmp_path / "changed.zip", members))


def test_a_changed_pair_has_another_fingerprint(bundle: Path, tmp_path: Path) -> None:
    """Who changes file and digest alike passes, which is why people compare fingerprints."""
    import hashlib

    members = _unpack(bundle)
    _other_authority(members, tmp_path)
    manifest = json.loads(members["manifest.json"])
    manifest["sha256"]["ca.crt"] = hashlib.sha256(members["ca.crt"]).hexdigest()
    members["manifest.json"] = json.dumps(manifest).encode()
    forged = read_invitation(_pack(tmp_path / "forged.zip", members))
    assert forged.fingerprint != read_invitation(bundle).fingerprint


def test_a_zip_bomb_is_not_unpacked(bundle: Path, tmp_path: Path) -> None:
    """600 MB of zeros in a file within the limit, under another packing method as well."""
    members = _unpack(bundle)
    members["study.toml"] = b"\0" * 600_000_000
    bomb = _pack(tmp_path / "bomb.zip", members)
    assert bomb.stat().st_size < LARGEST_INVITATION
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="unpacks to more"):
            read_invitation(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(BadInput, match="packed by a method"):
        read_invitation(_pack(tmp_path / "lzma.zip", _unpack(bundle), zipfile.ZIP_LZMA))


def test_a_name_twice_is_refused(bundle: Path, tmp_path: Path) -> None:
    twice = tmp_path / "twice.zip"
    twice.write_bytes(bundle.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("study.toml", b"x")
    with pytest.raises(BadInput, match="no invitation"):
        read_invitation(twice)


def test_other_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.zip"
    large.write_bytes(b"\0" * (LARGEST_INVITATION + 1))
    for path, message in (
        (large, "larger"),
        (tmp_path, "cannot be read"),
        (tmp_path / "absent", "cannot be read"),
    ):
        with pytest.raises(BadInput, match=message):
            read_invitation(path)


def test_an_expired_authority_ends_the_invitation(bundle: Path) -> None:
    with pytest.raises(BadInput, match="expired"):
        read_invitation(bundle, now=datetime.now(UTC) + timedelta(days=4000))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_or_harmless(bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    """One byte changed or the end cut off: read as before (zip has slack) or ``BadInput``, nothing else."""
    whole = bundle.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = (
        whole[:position]
        if data.draw(st.booleans())
        else whole[:position] + bytes([whole[position] ^ data.draw(st.integers(1, 255))]) + whole[position + 1 :]
    )
    path = tmp_path / "damaged.zip"
    path.write_bytes(changed)
    try:
        read = read_invitation(path)
    except BadInput:
        return
    assert read == read_invitation(bundle)
