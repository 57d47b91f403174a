"""What an auditor is given, on disk as Hanse writes it: two sites' bundles and keys, and the coordinator's run."""

from __future__ import annotations

from pathlib import Path

from common.privacy.ledger.details import Head
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory
from tests.common.audit.samples import EPSILONS, HONEST, KEYS, NAMES, written
from tests.common.privacy.ledger.samples import ROUND

__all__ = ["write_evidence"]


def write_evidence(folder: Path) -> Path:
    """Write ``sites/NAME/ledger.jsonl``, ``NAME.pub`` and ``run/``, which is a finished run's."""
    run = RunDirectory(folder / "run")
    (run.path / "run.json").write_text('{"run": "r"}', encoding="utf-8")
    entries = {site: written(site) for site in NAMES}
    for number, place in ((1, 3), (2, 5)):
        heads: dict[str, Head] = {site: entries[site][place].head for site in NAMES}
        run.witness(number, heads)
        sites = tuple(SiteRound(site, ROUND, EPSILONS[number - 1], True, 0.1) for site in NAMES)
        run.add_round(RoundRecord(number, "train", 50, sites, None, 1, 1))
    run.result.write_text("{}", encoding="utf-8")
    for site, given in zip(NAMES, HONEST.bundles, strict=True):
        (folder / "sites" / site).mkdir(parents=True)
        (folder / "sites" / site / "ledger.jsonl").write_bytes(given.data)
        (folder / f"{site}.pub").write_text(KEYS[site].public_hex + "\n", encoding="utf-8")
    return folder
