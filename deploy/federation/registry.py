"""Which sites belong to the federation: ``sites.json``, the coordinator's own list, ahead of Flower's database.

The list decides; Flower's database follows it (:mod:`deploy.federation.admission`). So a site can be registered
or revoked while the coordinator is down, and a database that was lost is filled again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from common.errors import BadInput
from common.file_lock import locked
from common.files import write_text
from common.study import Name
from deploy.federation.node_keys import NodePublicKey, parse_public_key

__all__ = ["Registry", "SiteEntry"]


class SiteEntry(BaseModel):
    """One institution as the coordinator knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    public_key: str
    """One OpenSSH line, without a comment."""
    registered_at: datetime
    node_id: int | None = None
    """Flower's name for its SuperNode; None until a running coordinator has taken it in."""
    revoked_at: datetime | None = None

    @field_validator("public_key")
    @classmethod
    def _a_node_key(cls, value: str) -> str:
        try:
            return parse_public_key(value, "public_key").openssh
        except BadInput as error:
            raise ValueError(str(error)) from error

    @property
    def revoked(self) -> bool:
        """Whether it may no longer connect."""
        return self.revoked_at is not None

    @property
    def key(self) -> NodePublicKey:
        """The key that it connects with."""
        return NodePublicKey(self.public_key)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    sites: list[SiteEntry] = []


class Registry:
    """The sites in a ``sites.json``; every change is on disk when its method returns."""

    def __init__(self, path: Path) -> None:
        """Name the file; a missing one means no sites."""
        self._path = path

    def sites(self) -> list[SiteEntry]:
        """Every site ever registered, the revoked too, by name; raises ``BadInput`` for a file it cannot read."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{self._path}: cannot be read ({type(error).__name__})") from error
        try:
            return sorted(_File.model_validate_json(text).sites, key=lambda site: (site.name, site.registered_at))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{self._path}: {where or 'the file'}: {first['msg']}; restore a backup") from error

    def stamp(self) -> tuple[int, ...]:
        """What differs whenever the file was replaced; empty where there is none."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return ()
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def current(self) -> list[SiteEntry]:
        """The sites that may connect."""
        return [site for site in self.sites() if not site.revoked]

    def site(self, name: str) -> SiteEntry:
        """The current site of that name; raises ``BadInput`` if there is none."""
        for site in self.current():
            if site.name == name:
                return site
        known = ", ".join(site.name for site in self.current()) or "none yet"
        raise BadInput(f"site {name}: is not registered; registered: {known}")

    def register(self, name: str, key: NodePublicKey) -> SiteEntry:
        """Add a site.

        Raises:
            BadInput: its name is taken, or its key belongs to a site or belonged to one that was revoked.
        """
        try:
            entry = SiteEntry(name=name, public_key=key.openssh, registered_at=_now())
        except ValidationError:
            raise BadInput(
                f"site {name}: must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
            ) from None

        def add(sites: list[SiteEntry]) -> list[SiteEntry]:
            for site in sites:
                if site.public_key == entry.public_key and site.revoked:
                    raise BadInput(
                        f"site {name}: this key was revoked (it was {site.name}'s); the site must make a new one"
                    )
                if site.public_key == entry.public_key:
                    raise BadInput(f"site {name}: this key is registered already, as {site.name}")
                if site.name == name and not site.revoked:
                    raise BadInput(f"site {name}: is registered with another key; revoke it first")
            return [*sites, entry]

        self._change(add)
        return entry

    def revoke(self, name: str) -> SiteEntry:
        """Shut a site out for good, its key too; raises ``BadInput`` if it is not registered."""
        return self._replace(self.site(name), revoked_at=_now())

    def note_node(self, site: SiteEntry, node_id: int | None) -> SiteEntry:
        """Note the id that Flower gave the site's node."""
        return self._replace(site, node_id=node_id)

    def _replace(self, site: SiteEntry, **changes: object) -> SiteEntry:
        changed = site.model_copy(update=changes)

        def swap(sites: list[SiteEntry]) -> list[SiteEntry]:
            return [old.model_copy(update=changes) if old.public_key == site.public_key else old for old in sites]

        self._change(swap)
        return changed

    def _change(self, change: Callable[[list[SiteEntry]], list[SiteEntry]]) -> None:
        """Read, change and write under a lock: two operators at once lose nothing."""
        with locked(self._path.with_name(f".{self._path.name}.lock")):
            text = _File(sites=change(self.sites())).model_dump_json(indent=2)
            write_text(self._path, text + "\n")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
