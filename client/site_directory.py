"""An institution's own folder: its policy, ledger, keys and stored replies, for its owner alone (PRIVACY P22)."""

from __future__ import annotations

from pathlib import Path

from common.errors import BadInput
from common.privacy.ledger.book import Ledger, open_ledger
from common.privacy.ledger.commitment import CommitmentKey, create_commitment_key, load_commitment_key
from common.privacy.ledger.keys import private_folder

__all__ = ["SiteDirectory"]


class SiteDirectory:
    """Names what lies in an institution's folder, and opens it.

    =================  ==============================================================
    ``policy.toml``    what the institution agrees to
    ``ledger.db``      its ledger, unless the policy names a PostgreSQL database
    ``site.key``       signs the ledger
    ``data.key``       keys its commitments to the data
    ``replies/``       the newest reply of each study, until the next round's plan
    ``receipts.jsonl`` what coordinators signed of the heads that they have seen (P8)
    ``guard.sock``     where the institution's guard answers while it runs; ``guard.lock`` is its own
    =================  ==============================================================
    """

    def __init__(self, path: Path) -> None:
        """Name the files of the folder at ``path``; nothing is made or read yet."""
        self.path = path
        self.policy = path / "policy.toml"
        self.replies = path / "replies"
        self.receipts = path / "receipts.jsonl"
        self._ledger = path / "ledger.db"
        self._key = path / "site.key"
        self._commitment_key = path / "data.key"

    def create(self) -> None:
        """Make the folder (0700), or check that only its owner may read it; raises ``BadInput``."""
        private_folder(self.path)

    def has_ledger(self) -> bool:
        """Whether a ledger was ever opened here."""
        return self._key.exists()

    def ledger(self, url: str = "") -> Ledger:
        """The site's ledger, made with its key at the first use.

        Args:
            url: a PostgreSQL database in place of the file.
        """
        self.create()
        return open_ledger(url or self._ledger, self._key)

    def existing_ledger(self, url: str = "") -> Ledger:
        """The site's ledger; raises ``BadInput`` where none was ever opened."""
        if not self.path.is_dir():
            raise BadInput(f"{self.path}: no such site folder")
        if not self.has_ledger():
            raise BadInput(f"{self.path}: holds no ledger; a site opens it when it first takes part")
        return self.ledger(url)

    def commitment_key(self) -> CommitmentKey:
        """The key of the site's commitments to its data, made at the first use."""
        self.create()
        if self._commitment_key.exists():
            return load_commitment_key(self._commitment_key)
        return create_commitment_key(self._commitment_key)
