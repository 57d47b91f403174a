"""An invitation: one file with all that a site needs to join, and no secret.

A zip archive of exactly three members: ``manifest.json`` (who invites whom, and the SHA-256 of the other two),
``ca.crt`` (the only authority that the site will trust) and ``study.toml``. What an invitation says is
believed because of how it came: operator and officer compare its fingerprint over another channel.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from common.errors import BadInput
from common.files import atomically
from common.study import Name, Study
from common.study_file import parse_study
from deploy.federation.address import Address, AddressText, parse_address
from deploy.federation.certificates import parse_authority
from deploy.federation.coordinator_directory import CoordinatorDirectory

__all__ = ["LARGEST_INVITATION", "Invitation", "Manifest", "read_invitation", "write_invitation"]

LARGEST_INVITATION: Final = 2_000_000
"""Bytes of the whole file."""

_MANIFEST, _AUTHORITY, _STUDY = "manifest.json", "ca.crt", "study.toml"
_LARGEST: Final = {_MANIFEST: 20_000, _AUTHORITY: 20_000, _STUDY: 500_000}
"""Bytes of each member, unpacked."""
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)
"""What reading a damaged or hostile archive raises."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """Who invites whom, where to, and what came along."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["hanse-invitation-1"] = "hanse-invitation-1"
    federation: Name
    site: Name
    address: AddressText
    """``host:port`` of the coordinator."""
    created: datetime
    witness_key: _Digest
    """Ed25519 public key of the coordinator's witness: 64 hexadecimal digits."""
    sha256: dict[Literal["ca.crt", "study.toml"], _Digest]


class Invitation(BaseModel):
    """An invitation that was read and found whole."""

    model_config = ConfigDict(frozen=True)

    manifest: Manifest
    authority: bytes
    """The authority's certificate, PEM."""
    study_text: str
    fingerprint: str
    """SHA-256 of the manifest, which names the digests of the rest: compare it over another channel."""

    @property
    def address(self) -> Address:
        """Where the coordinator is reached."""
        return parse_address(self.manifest.address)

    def study(self) -> Study:
        """The study that the site is invited to."""
        return parse_study(self.study_text, where=_STUDY)


def write_invitation(directory: CoordinatorDirectory, site: str, out: Path) -> Invitation:
    """Write the invitation of ``site`` to ``out``, replacing what is there, and return it as the site reads it.

    Raises:
        BadInput: there is no study yet, or a value cannot be used.
    """
    federation = directory.federation()
    directory.read_study()
    members = {_AUTHORITY: directory.authority[1].read_bytes(), _STUDY: directory.study.read_bytes()}
    try:
        manifest = Manifest(
            federation=federation.name,
            site=site,
            address=federation.address,
            created=datetime.now(UTC).replace(microsecond=0),
            witness_key=directory.witness_key().public_hex,
            sha256={name: hashlib.sha256(data).hexdigest() for name, data in members.items()},  # type: ignore[misc]  # the two names of the literal
        )
    except ValidationError:
        raise BadInput(
            f"site {site}: must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        ) from None
    members[_MANIFEST] = manifest.model_dump_json(indent=2).encode()
    with atomically(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (_MANIFEST, _AUTHORITY, _STUDY):
            archive.writestr(name, members[name])
    return read_invitation(out)


def read_invitation(path: Path, now: datetime | None = None) -> Invitation:
    """Read an invitation and check all of it: members, sizes, digests, certificate, address, study.

    Raises:
        BadInput: it was changed, cut short, is too large, has expired, or is something else.
    """
    members = _members(path)
    try:
        manifest = Manifest.model_validate_json(members[_MANIFEST])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {_MANIFEST}: {where or 'the file'}: {first['msg']}") from error
    for name in (_AUTHORITY, _STUDY):
        if manifest.sha256.get(name) != hashlib.sha256(members[name]).hexdigest():  # type: ignore[call-overload]  # as above
            raise BadInput(f"{path}: {name} is not the one that the manifest names; ask for the invitation again")
    parse_authority(members[_AUTHORITY], f"{path}: {_AUTHORITY}", now)
    try:
        text = members[_STUDY].decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: {_STUDY} is not UTF-8") from None
    parse_study(text, where=f"{path}: {_STUDY}")
    return Invitation(
        manifest=manifest,
        authority=members[_AUTHORITY],
        study_text=text,
        fingerprint=hashlib.sha256(members[_MANIFEST]).hexdigest(),
    )


def _members(path: Path) -> dict[str, bytes]:
    """Unpack exactly the three members, each within its size, in memory: nothing is written to disk."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_INVITATION + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > LARGEST_INVITATION:
        raise BadInput(f"{path}: is larger than {LARGEST_INVITATION:,} bytes; it is no invitation")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            if names != sorted(_LARGEST):
                raise BadInput(f"{path}: holds {', '.join(names[:5]) or 'nothing'}; that is no invitation")
            if any(info.compress_type not in _METHODS for info in archive.infolist()):
                raise BadInput(f"{path}: is packed by a method that invitations do not use")
            return {name: _unpacked(archive, name, path) for name in _LARGEST}
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
    ) as error:
        raise BadInput(f"{path}: is not a whole invitation ({type(error).__name__}); ask for it again") from error


def _unpacked(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    # The size that the archive states may lie: no more than the limit is ever unpacked.
    with archive.open(name) as stream:
        data = stream.read(_LARGEST[name] + 1)
    if len(data) > _LARGEST[name]:
        raise BadInput(f"{path}: {name} unpacks to more than {_LARGEST[name]:,} bytes; it is no invitation")
    return data
