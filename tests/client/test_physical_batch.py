"""The number of rows at once: the study's, or one that memory holds; it changes speed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client import physical_batch
from client.physical_batch import physical_batch_size
from common.model import build_classifier
from common.study import Study
from common.study_file import parse_study
from tests.client.samples import plan_of, policy_of, site_of, weights_of
from tests.tiny import tiny_study_text


def study_of(base: Path, *overrides: str) -> Study:
    return parse_study(tiny_study_text(base, base), "tiny", overrides)


def test_a_number_is_taken_as_it_is(tiny_base: Path) -> None:
    study = study_of(tiny_base, "training.physical_batch_size=5")
    assert physical_batch_size(study, build_classifier(study)) == 5


def test_auto_is_the_largest_power_of_two_that_the_budget_holds(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny BERT: 2 layers, 32 wide, 2 heads, 16 tokens: 27,648 numbers or 110,592 bytes a row."""
    study = study_of(tiny_base, "training.physical_batch_size=auto")
    classifier = build_classifier(study)
    for budget, rows in ((110_592 * 16, 16), (110_592 * 16 - 1, 8), (1, 1), (10**12, 1024)):
        monkeypatch.setattr(physical_batch, "_CPU_BYTES", budget)
        assert physical_batch_size(study, classifier) == rows


def test_auto_holds_a_whole_person(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physical_batch, "_CPU_BYTES", 1)
    persons = ("privacy.unit=group", "privacy.group_column=person", "privacy.rows_per_group=6")
    study = study_of(tiny_base, "training.physical_batch_size=auto", *persons)
    assert physical_batch_size(study, build_classifier(study)) == 6


def test_it_changes_no_update(tiny_base: Path, tmp_path: Path) -> None:
    public = policy_of(dataset={"public": True})
    updates = []
    for size in ("3", "auto"):
        study = study_of(tiny_base, "privacy.enabled=false", f"training.physical_batch_size={size}")
        site = site_of(tiny_base, study, tmp_path / size, public)
        updates.append(site.train(plan_of(study, 2), weights_of(study, 2)).weights)
    assert all(np.allclose(updates[0][name], updates[1][name], atol=1e-5) for name in updates[0])
