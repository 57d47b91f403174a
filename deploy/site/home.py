"""A site's two folders: the institution's own, and its node's, which holds nothing of the institution's.

The node runs code that the coordinator sends. So its folder can belong to another user than the guard's, and holds
what it needs and no more: the node's key, the federation's authority, and where the guard's socket is.
"""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from client.guard import GuardSettings
from client.site_directory import SiteDirectory
from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.keys import check_private, private_folder
from common.study import Name
from deploy.federation.address import AddressText, parse_address
from deploy.federation.supernode import SuperNodeSettings

__all__ = ["FederationFile", "NodeFile", "NodeHome", "SiteFile", "SiteHome", "is_node_home"]

_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Model = TypeVar("_Model", bound=BaseModel)

_NODE_FILE = "node.toml"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteFile(_File):
    """``site.toml``: where the site's data lies and where its guard listens."""

    name: Name
    data: str
    """Absolute path of the data file or folder."""
    socket: str = ""
    """Absolute path; "" for ``guard.sock`` in the site's folder."""
    socket_group: str = ""
    """Group that may use the socket besides its owner."""


class FederationFile(_File):
    """``federations/NAME/federation.toml``: one federation that the site joined."""

    federation: Name
    address: AddressText
    witness_key: _Digest
    """The coordinator's Ed25519 key: only what it signs counts as witnessed (PRIVACY P8)."""
    invitation: _Digest
    """The invitation's fingerprint."""
    joined: datetime


class NodeFile(_File):
    """``node.toml``: whom the node connects to, and the guard that it asks."""

    federation: Name
    site: Name
    address: AddressText
    socket: str
    """Absolute path of the guard's socket."""


class NodeHome:
    """A node's folder, for its user alone.

    It holds ``node.toml``, ``node.key``, ``ca.crt``, ``superexec.secret``, ``flower/``, ``logs/``, ``tmp/``, and
    ``rooms/`` with links to the installed packages.
    """

    def __init__(self, path: Path) -> None:
        """Name the files of the folder at ``path``; nothing is made or read yet."""
        self.path = path.absolute()
        self.file = self.path / _NODE_FILE
        self.key = self.path / "node.key"
        self.public_key = self.path / "node.key.pub"
        self.authority = self.path / "ca.crt"
        self.secret = self.path / "superexec.secret"
        self.flower = self.path / "flower"
        self.logs = self.path / "logs"
        self.temporary = self.path / "tmp"
        self.rooms = self.path / "rooms"

    def read(self) -> NodeFile:
        """Its ``node.toml``; raises ``BadInput`` where there is none, or others can read the folder."""
        check_private(self.path)
        return _read(self.file, NodeFile)

    def write(self, content: NodeFile) -> None:
        """Write ``node.toml``."""
        _write(self.file, content)

    def settings(self, port: int = 0) -> SuperNodeSettings:
        """What its processes need; ``port`` on loopback is theirs, 0 for a free one."""
        node = self.read()
        check_private(self.key)
        check_private(self.secret)
        return SuperNodeSettings(
            coordinator=parse_address(node.address),
            authority=self.authority,
            key=self.key,
            secret=self.secret,
            home=self.flower,
            logs=self.logs,
            config={"guard": node.socket},
            port=port,
        )


class SiteHome:
    """The institution's own folder: ``site.toml`` and ``federations/`` beside what ``SiteDirectory`` names.

    A node's folder is ``node/NAME`` in it, unless the site keeps it elsewhere for another user.
    """

    def __init__(self, path: Path) -> None:
        """Name the files of the folder at ``path``; nothing is made or read yet."""
        self.path = path.absolute()
        self.directory = SiteDirectory(self.path)
        self.file = self.path / "site.toml"
        self.federations = self.path / "federations"
        self.nodes = self.path / "node"
        self.logs = self.path / "logs"

    def read(self) -> SiteFile:
        """Its ``site.toml``; raises ``BadInput`` where the folder is no site's, or others can read it."""
        if not self.file.is_file():
            raise BadInput(f"{self.path}: holds no site.toml; join a federation with: hanse site join INVITATION")
        check_private(self.path)
        return _read(self.file, SiteFile)

    def write(self, content: SiteFile) -> None:
        """Write ``site.toml``."""
        _write(self.file, content)

    def joined(self) -> list[FederationFile]:
        """The federations that the site joined, by name; raises ``BadInput`` for a file it cannot read."""
        if not self.federations.is_dir():
            return []
        return [_read(path, FederationFile) for path in sorted(self.federations.glob("*/federation.toml"))]

    def add(self, content: FederationFile, study: str) -> None:
        """Note a federation, and the text of the study that it invites to."""
        folder = self.federations / content.federation
        private_folder(folder)
        write_text(folder / "study.toml", study)
        _write(folder / "federation.toml", content)

    def study_file(self, federation: str) -> Path:
        """The study that a federation invited the site to."""
        return self.federations / federation / "study.toml"

    def socket(self) -> Path:
        """Where the guard listens."""
        return Path(self.read().socket or self.path / "guard.sock")

    def node_homes(self) -> list[NodeHome]:
        """The nodes whose folders lie in the site's own."""
        if not self.nodes.is_dir():
            return []
        return [NodeHome(path.parent) for path in sorted(self.nodes.glob(f"*/{_NODE_FILE}"))]

    def guard_settings(self) -> GuardSettings:
        """What the site's guard needs."""
        site = self.read()
        return GuardSettings(
            directory=self.directory,
            data=Path(site.data),
            coordinators={each.witness_key: each.federation for each in self.joined()},
            socket=self.socket(),
            socket_group=site.socket_group or None,
        )


def is_node_home(path: Path) -> bool:
    """Whether a folder is a node's, and not a site's."""
    return (path / _NODE_FILE).is_file()


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {where or 'the file'}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not TOML: {error}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def _write(path: Path, content: BaseModel) -> None:
    write_text(path, tomli_w.dumps(content.model_dump(mode="json")))
