"""The coordinator's folder: everything that makes one federation, for its owner alone."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.keys import (
    SiteKey,
    check_private,
    create_site_key,
    load_site_key,
    private_folder,
    write_private,
)
from common.study import Name, Study
from deploy.federation.address import Address, AddressText, parse_address
from deploy.federation.certificates import create_authority, issue_server_certificate, renew_if_due
from deploy.federation.registry import Registry

__all__ = ["CoordinatorDirectory", "Federation", "create_federation", "open_federation"]

_SECRET_BYTES = 32


class Federation(BaseModel):
    """``federation.toml``: what the sites and the coordinator call each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    address: AddressText
    """``host:port`` under which the sites reach the coordinator."""
    listen: str
    """Address of the interface that it listens on: ``0.0.0.0`` for every one, ``127.0.0.1`` for this machine."""
    created: datetime

    @property
    def parsed_address(self) -> Address:
        """The address in its parts."""
        return parse_address(self.address)

    @property
    def local_address(self) -> Address:
        """How this machine's own processes reach the coordinator."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.listen, self.listen)
        return Address(own, self.parsed_address.port)


class CoordinatorDirectory:
    """Names what lies in the coordinator's folder, and opens it.

    =====================  =======================================================================
    ``federation.toml``    name and address
    ``study.toml``         the study that the sites are invited to
    ``sites.json``         the registered sites and their keys
    ``ca/``                key and certificate of the federation's authority
    ``server/``            key and certificate that the sites check the coordinator by
    ``secrets/``           what the coordinator's processes prove themselves to each other with
    ``witness.key``        signs the ledger heads that the coordinator has seen (PRIVACY P8)
    ``superlink.db``       Flower's state: nodes, runs, messages under way
    ``flower/``            Flower's home, apart from the user's own
    ``logs/``              what the coordinator's processes said
    ``runs/``              one folder a run
    ``invitations/``       the bundles made for the sites
    =====================  =======================================================================
    """

    def __init__(self, path: Path) -> None:
        """Name the files of the folder at ``path``; nothing is made or read yet."""
        self.path = path.resolve()
        self.settings = self.path / "federation.toml"
        self.study = self.path / "study.toml"
        self.authority = (self.path / "ca" / "ca.key", self.path / "ca" / "ca.crt")
        self.server = (self.path / "server" / "server.key", self.path / "server" / "server.crt")
        self.control_token = self.path / "secrets" / "control.token"
        self.superexec_secret = self.path / "secrets" / "superexec.secret"
        self.witness_key_file = self.path / "witness.key"
        self.database = self.path / "superlink.db"
        self.flower_home = self.path / "flower"
        self.logs = self.path / "logs"
        self.runs = self.path / "runs"
        self.invitations = self.path / "invitations"
        self.lock = self.path / ".coordinator.lock"
        self.admission_lock = self.path / ".admission.lock"
        self.registry = Registry(self.path / "sites.json")

    def federation(self) -> Federation:
        """Its name and address; raises ``BadInput`` where the folder is no federation's, or others can read it."""
        import tomllib

        if not self.settings.is_file():
            raise BadInput(
                f"{self.path}: holds no federation.toml; name the folder with --federation, or make one with "
                "hanse federation init"
            )
        check_private(self.path)
        try:
            return Federation(**tomllib.loads(self.settings.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"{self.settings}: {first['loc'][0]}: {first['msg']}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{self.settings}: is not TOML: {error}") from error

    def read_study(self) -> Study:
        """The study that the sites are invited to; raises ``BadInput`` where there is none."""
        from common.study_file import read_study

        if not self.study.is_file():
            raise BadInput(f"{self.study}: no study yet; copy one there (hanse study new writes a one to edit)")
        return read_study(self.study)

    def witness_key(self) -> SiteKey:
        """The key that signs what the coordinator has seen of the sites' ledgers."""
        return load_site_key(self.witness_key_file)

    def secret(self, path: Path) -> str:
        """One of its secrets; raises ``BadInput`` for one that others can read."""
        check_private(path)
        return path.read_text(encoding="ascii")

    def renew_certificate(self) -> bool:
        """Renew the server's certificate if it is due; tell whether it was."""
        return renew_if_due(self.authority, self.server, [self.federation().parsed_address.host])


def open_federation(path: Path) -> CoordinatorDirectory:
    """The federation in a folder; raises ``BadInput`` where there is none."""
    directory = CoordinatorDirectory(path)
    directory.federation()
    return directory


def create_federation(
    path: Path, name: str, address: str, study: Study | None = None, listen: str | None = None
) -> CoordinatorDirectory:
    """Make a federation in a new or empty folder: authority, certificate, keys, secrets.

    Args:
        path: the folder; it is made for its owner alone (0700).
        name: what the sites see.
        address: ``host:port`` under which the sites reach it.
        study: what the sites are invited to; it can be added later as ``study.toml``.
        listen: the interface's address; by default all of them, or loopback where the address is that.

    Raises:
        BadInput: the folder holds something, or a value cannot be used.
    """
    from common.study_file import write_study

    parsed = parse_address(address)
    directory = CoordinatorDirectory(path)
    if directory.path.exists() and (not directory.path.is_dir() or any(directory.path.iterdir())):
        raise BadInput(f"{path}: exists and is not an empty folder; name a new one")
    every = "::" if ":" in parsed.host else "0.0.0.0"
    loopback = parsed.host if parsed.host != "localhost" else "127.0.0.1"
    try:
        federation = Federation(
            name=name,
            address=str(parsed),
            listen=listen or (loopback if parsed.is_loopback else every),
            created=datetime.now(UTC).replace(microsecond=0),
        )
    except ValidationError:
        raise BadInput(
            f"--name {name}: must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        ) from None
    private_folder(directory.path)
    for folder in (directory.flower_home, directory.logs, directory.runs, directory.invitations):
        private_folder(folder)
    create_authority(*directory.authority, name=federation.name)
    issue_server_certificate(directory.authority, directory.server, [parsed.host])
    create_site_key(directory.witness_key_file)
    for secret in (directory.control_token, directory.superexec_secret):
        write_private(secret, secrets.token_hex(_SECRET_BYTES).encode())
    if study is not None:
        write_study(study, directory.study)
    # Last: a folder with this file is complete.
    write_text(directory.settings, tomli_w.dumps(federation.model_dump(mode="json")))
    return directory
