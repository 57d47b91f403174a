"""What must hold after any fault; each violation is a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from client.site_directory import SiteDirectory
from common.audit.ledger_audit import LedgerAudit, audit_ledgers
from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import read_run
from common.privacy.ledger.bundle import export_bundle
from common.privacy.ledger.details import Reserved
from common.schedule import schedule
from server.run_directory import RunDirectory
from tests.chaos.world import SITES, World

__all__ = ["GRACE_SECONDS", "ledger_violations", "run_violations", "slow_rounds"]

GRACE_SECONDS = 20.0
"""Beyond a round's deadline: scoring, checkpoint, and a busy machine."""


def ledger_violations(world: World, runs: Sequence[str]) -> list[str]:
    """The ledgers verify, hold every recorded round in full, and hold no round twice.

    The first two are the auditor's checks, made on exported bundles with the sites' keys; the last is counted
    here once more, on its own.
    """
    audit = _audit(world, runs)
    found = [f"check {check.number} ({check.name}): {check.findings[0].what}" for check in audit.failed]
    for site in SITES:
        entries = SiteDirectory(world.local.home(site)).existing_ledger().entries()
        counted = Counter(
            (entry.run, entry.round)
            for entry in entries
            if isinstance(entry.details, Reserved) and entry.round is not None
        )
        found += [
            f"{site}: round {number} of run {run} reserved {times} times"
            for (run, number), times in counted.items()
            if times > 1
        ]
    return found


def run_violations(world: World, run: str) -> list[str]:
    """The run came to its end: every round recorded once, the model finite."""
    from safetensors.numpy import load_file

    folder = world.run_directory(run)
    if not (folder / "result.json").exists():
        return [f"{run}: did not come to its end"]
    rounds = [record.round for record in RunDirectory(folder).rounds()]
    expected = list(range(1, len(schedule(world.study(run))) + 1))
    found = []
    if rounds != expected:
        found.append(f"{run}: rounds {rounds} are recorded, {expected} were to be")
    weights = load_file(folder / "model" / "model.safetensors")
    if not all(np.isfinite(value).all() for value in weights.values()):
        found.append(f"{run}: its model is not finite")
    return found


def slow_rounds(events: Path, deadline: float, disturbed: Sequence[tuple[float, float]]) -> list[str]:
    """Rounds that took longer than their deadline and :data:`GRACE_SECONDS`.

    ``disturbed``: spans of Unix time in which the coordinator itself was stopped or dead; they do not count.
    """
    found, started = [], 0.0
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] in ("round-started", "connecting", "failed"):
            started = event["time"] if event["event"] == "round-started" else 0.0
        elif event["event"] in ("round-finished", "round-consumed") and started:
            ended = event["time"]
            lost = sum(max(0.0, min(ended, until) - max(started, since)) for since, until in disturbed)
            if ended - started - lost > deadline + GRACE_SECONDS:
                found.append(f"round {event['round']} took {ended - started - lost:.0f} s")
    return found


def _audit(world: World, runs: Sequence[str]) -> LedgerAudit:
    bundles, keys = [], []
    for site in SITES:
        directory = SiteDirectory(world.local.home(site))
        path = world.folder / f"{site}.ledger"
        path.unlink(missing_ok=True)
        ledger = directory.existing_ledger()
        export_bundle(ledger, path)
        bundles.append(Bundle(site, path.read_bytes(), site))
        keys.append(TrustedKey(ledger.public_key, site))
    evidence = [read_run(world.run_directory(run)) for run in runs]
    return audit_ledgers(bundles, keys, runs=evidence, second_opinion=False)
