"""Bundles as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import AuditFailure, BadInput, RunFailed
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.bundle import export_bundle, read_bundle
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, OTHER_KEY, site_ledger


def test_p01_a_bundle_needs_no_database(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    PrivacyBudget(ledger, DATA).open(FILTER)
    head = export_bundle(ledger, tmp_path / "bundle.jsonl")
    assert read_bundle(tmp_path / "bundle.jsonl", KEY.public_hex, [head]).entries == ledger.entries()
    with pytest.raises(AuditFailure, match="check 2"):
        read_bundle(tmp_path / "bundle.jsonl", OTHER_KEY.public_hex)
    with pytest.raises(BadInput, match="cannot be read"):
        read_bundle(tmp_path / "none.jsonl", KEY.public_hex)
    with pytest.raises(RunFailed, match="cannot be written"):
        export_bundle(ledger, tmp_path / "no" / "folder" / "bundle.jsonl")
