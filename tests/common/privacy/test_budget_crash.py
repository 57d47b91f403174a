"""SIGKILL at random moments of a real process: the ledger verifies, and never counts too little."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.common.privacy.crashing import kill_many


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_p07_killed_at_random_moments_it_never_counts_too_little(tmp_path: Path) -> None:
    found = kill_many(tmp_path, 20)
    assert found.kills == 20
    assert found.steps_counted >= found.steps_run > 0
    assert found.kills_with_an_open_reservation > 0, "no kill met an open reservation: the test saw nothing"
