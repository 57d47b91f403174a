"""Bundles: a ledger as one portable file of JSON lines that needs no database to verify (P1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, RunFailed
from common.files import atomically
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Head
from common.privacy.ledger.rules import VerifiedLedger, verified_entries

__all__ = ["export_bundle", "read_bundle"]


def export_bundle(ledger: Ledger, path: Path) -> Head:
    """Write the ledger's bundle, whole or not at all, and give its head."""
    data = ledger.bundle()
    try:
        with atomically(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise RunFailed(f"{path}: the bundle cannot be written ({error.strerror})") from error
    return verified_entries(data, ledger.public_key).head


def read_bundle(path: Path, public_key: str, witnessed: Sequence[Head] = ()) -> VerifiedLedger:
    """Read and verify a bundle; raises ``AuditFailure`` for what does not survive."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    return verified_entries(data, public_key, witnessed)
