"""The coordinator's memory of the sites' ledgers, over all its runs, and its signed word of it (PRIVACY P8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import load_site_key
from common.privacy.ledger.receipt import Receipt, SignedReceipt, sign_receipt
from common.wire import SiteDescription
from server.witnessed_heads import append_heads, newest_heads

__all__ = ["CoordinatorWitness"]


class CoordinatorWitness:
    """Keeps every site's newest ledger head in the coordinator's own ``witness.jsonl``, and signs receipts."""

    def __init__(self, folder: Path, sites: Mapping[int, str], run: str) -> None:
        """Read what was witnessed before.

        Args:
            folder: the coordinator's, with ``witness.key``; ``witness.jsonl`` grows there.
            sites: registered name of each site by its node's id.
            run: the run's identifier.
        """
        self.sites = dict(sites)
        self._key = load_site_key(folder / "witness.key")
        self._file = folder / "witness.jsonl"
        self._run = run
        self._newest = newest_heads(self._file)

    def check_names(self, described: Mapping[int, SiteDescription]) -> None:
        """Every site must call itself what it was registered as.

        Raises:
            BadInput: one does not: it would have its heads kept under another's name.
        """
        for node, site in described.items():
            if self.sites.get(node) != site.name:
                registered = self.sites.get(node, "nobody")
                raise BadInput(
                    f'site "{site.name}": its node is registered as {registered}; the site\'s policy must say '
                    "site.name as the coordinator registered it"
                )

    def note(self, round_number: int, heads: Mapping[str, Head]) -> None:
        """Remember heads that came with a round's updates, by site; on disk when this returns."""
        append_heads(self._file, round_number, heads, run=self._run)
        self._newest.update(heads)

    def receipts(self, sites: Mapping[int, SiteDescription]) -> dict[int, SignedReceipt]:
        """By node, what each site is told; a site without a guard wants none."""
        return {
            node: sign_receipt(
                self._key,
                Receipt(site=site.name, run=self._run, nonce=site.nonce, head=self._newest.get(site.name)),
            )
            for node, site in sites.items()
            if site.nonce
        }
