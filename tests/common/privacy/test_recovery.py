"""P8: a restored backup reserves nothing until what was lost is entered again, or written off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.errors import AuditFailure, BadInput, PolicyRefusal
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.details import Head
from common.privacy.ledger.rules import verified_entries
from common.privacy.mechanism import SampledGaussian
from common.privacy.recovery import LostRelease, reenter, write_off
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, PLAN, ROUND, STUDY, site_ledger

USE = StudyUse(STUDY, "r", 1e-5, coordinator="north")


def restored(folder: Path) -> tuple[PrivacyBudget, Head, float]:
    """A site that trained two rounds, and was set back to the first by a backup; the head and spend it lost."""
    found = PrivacyBudget(site_ledger(folder), DATA)
    found.open(FILTER)
    found.witness({"north": None})
    found.settle(found.reserve(USE, RoundRequest(1, PLAN, ROUND)), "completed")
    shutil.copytree(folder / "site", folder / "backup")
    found.settle(found.reserve(USE, RoundRequest(2, PLAN, ROUND)), "completed")
    head, spent = found.heads(), found.spending()[0].spent
    shutil.rmtree(folder / "site")
    shutil.copytree(folder / "backup", folder / "site")
    return PrivacyBudget(site_ledger(folder), DATA), head, spent


@pytest.mark.parametrize("more", [0, 2], ids=["behind", "gone on"])
def test_p08_restore_a_backup_then_train_is_refused(tmp_path: Path, more: int) -> None:
    found, head, spent = restored(tmp_path)
    if more:  # somebody used the backup before any coordinator was asked
        found.open(FILTER)
        found.open(FILTER)
    said = found.witness({"north": head})
    assert said is not None
    assert ("another history" if more else "missing entries") in said
    with pytest.raises(PolicyRefusal, match="re-enter the missing entries at whole cost, or write the budget off"):
        found.reserve(USE, RoundRequest(2, PLAN, ROUND))
    with pytest.raises(PolicyRefusal):
        found.admit_study(USE, ROUND)
    with pytest.raises(AuditFailure, match="check 9"):
        verified_entries(found.ledger.bundle(), KEY.public_hex, [head])

    reenter(found.ledger, DATA, head, [LostRelease(STUDY, "r", 2, PLAN, ROUND, budget=1)])
    assert found.spending()[0].spent == spent
    with pytest.raises(PolicyRefusal, match=r"round 2 .* was reserved before"):
        found.reserve(USE, RoundRequest(2, PLAN, ROUND))
    found.reserve(USE, RoundRequest(3, PLAN, ROUND))
    assert verified_entries(found.ledger.bundle(), KEY.public_hex, [head]).restored == (head,)


def test_p08_a_write_off_leaves_nothing(tmp_path: Path) -> None:
    found, head, _ = restored(tmp_path)
    found.witness({"north": head})
    write_off(found.ledger, DATA, head)
    assert found.spending()[0].left == 0.0
    with pytest.raises(Exception, match="it was closed"):
        found.reserve(USE, RoundRequest(3, PLAN, ROUND))
    assert verified_entries(found.ledger.bundle(), KEY.public_hex, [head]).restored == (head,)


def test_p08_each_dataset_makes_up_for_its_own(tmp_path: Path) -> None:
    found, head, _ = restored(tmp_path)
    other = PrivacyBudget(found.ledger, "other")
    other.open(FILTER)
    write_off(found.ledger, DATA, head)
    assert other.witness({"north": head}) is not None
    with pytest.raises(AuditFailure, match="check 9"):
        verified_entries(found.ledger.bundle(), KEY.public_hex, [head])
    write_off(found.ledger, "other", head)
    assert other.witness({"north": head}) is None


def test_p08_a_ledger_lost_whole_is_found_by_the_coordinator_that_asks(tmp_path: Path) -> None:
    _, head, _ = restored(tmp_path)
    shutil.rmtree(tmp_path / "site")
    found = PrivacyBudget(site_ledger(tmp_path), DATA)
    found.open(FILTER)
    with pytest.raises(PolicyRefusal, match="head of north was not fetched"):
        found.reserve(USE, RoundRequest(1, PLAN, ROUND))
    found.witness({"north": head})
    with pytest.raises(PolicyRefusal, match="missing entries"):
        found.reserve(USE, RoundRequest(1, PLAN, ROUND))


def test_what_was_released_counts_beyond_the_budget(tmp_path: Path) -> None:
    found, head, _ = restored(tmp_path)
    reenter(found.ledger, DATA, head, [LostRelease(STUDY, "r", 2, PLAN, SampledGaussian(0.02, 0.5, 100))])
    assert found.spending()[0].left == 0.0
    assert found.claim().epsilon > 3.0


def test_nothing_is_mended_that_is_not_missing(tmp_path: Path) -> None:
    found, head, _ = restored(tmp_path)
    with pytest.raises(BadInput, match="nothing is missing"):
        write_off(found.ledger, DATA, found.heads())
    with pytest.raises(BadInput, match="no release was given"):
        reenter(found.ledger, DATA, head, [])
