"""A federation under fire in short; ``make chaos`` does it at length."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.faults import CRASHES, Kind, faults
from tests.chaos.world import SITES, World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hanse-"))  # short, for the sockets
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_killed_site_guard_or_coordinator_costs_no_run_and_no_ledger_entry(folder: Path) -> None:
    """Each three times, at random moments of a round."""
    with World(folder / "w").running() as world:
        report = Campaign(world, 7, 3 * len(CRASHES), CRASHES, print).run()
    assert report.violations == []
    assert report.to_json()["by_kind"] == dict.fromkeys(sorted(CRASHES), 3)
    assert all(run.rounds for run in report.runs)


def test_a_plan_follows_from_its_seed_alone() -> None:
    kinds = tuple(Kind)
    for first, again, _ in zip(faults(3, kinds, SITES), faults(3, kinds, SITES), range(50), strict=False):
        assert first == again
    drawn = [fault.kind for fault, _ in zip(faults(4, kinds, SITES), range(2 * len(kinds)), strict=False)]
    assert sorted(drawn) == sorted((*kinds, *kinds))
