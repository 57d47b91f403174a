"""Ledgers, budgets and a run directory as the product writes them on disk, audited; then a backup restored."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.audit.ledger_audit import LedgerAudit, audit_ledgers
from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import read_run
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory
from tests.common.audit.samples import EPSILONS, KEYS, NAMES, WHOLE, verdicts
from tests.common.privacy.ledger.samples import DATA, PLAN, PLANNED, ROUND, STUDY, site_ledger


def _budget(folder: Path, site: str) -> PrivacyBudget:
    return PrivacyBudget(site_ledger(folder / site, KEYS[site]), DATA)


def _round(folder: Path, run: RunDirectory, number: int) -> None:
    """Both sites pay, train and report; the coordinator witnesses and records."""
    heads = {}
    for site in NAMES:
        budget, use = _budget(folder, site), StudyUse(STUDY, run.run_identifier(), PLANNED.delta)
        budget.ensure_open(PLANNED)
        budget.admit_study(use, WHOLE)
        held = budget.reserve(use, RoundRequest(number, PLAN, ROUND))
        heads[site] = budget.settle(held, "completed").head
    run.mark_started(number)
    run.witness(number, heads)
    sites = tuple(SiteRound(site, ROUND, EPSILONS[number - 1], True, 0.1) for site in NAMES)
    run.add_round(RoundRecord(number, "train", 50, sites, None, 1, 1))


def _audit(folder: Path, run: RunDirectory) -> LedgerAudit:
    bundles = [Bundle(site, site_ledger(folder / site, KEYS[site]).bundle()) for site in NAMES]
    keys = [TrustedKey(KEYS[site].public_hex) for site in NAMES]
    return audit_ledgers(bundles, keys, runs=[read_run(run.path)], second_opinion=False)


def test_p01_p08_a_real_run_passes_and_a_restored_backup_does_not(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    _round(tmp_path, run, 1)
    assert set(verdicts(_audit(tmp_path, run)).values()) == {"passed"}
    shutil.copytree(tmp_path / "north", tmp_path / "backup")
    _round(tmp_path, run, 2)
    run.result.write_text("{}", encoding="utf-8")
    assert set(verdicts(_audit(tmp_path, run)).values()) == {"passed"}
    shutil.rmtree(tmp_path / "north")
    (tmp_path / "backup").rename(tmp_path / "north")
    failed = {check.check.name for check in _audit(tmp_path, run).failed}
    assert failed == {"WITNESSED", "RECORDED"}
