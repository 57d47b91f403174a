"""A guard serves and trains with no network at all, as its container and its unit run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.guard import GuardSettings
from common.privacy.ledger.details import Settled
from common.study import Study
from common.study_file import parse_study
from tests.client.guards import entries, guard_process, site_folder, train
from tests.tiny import tiny_study_text

_LEAVE_THE_NETWORK = """
import ctypes, socket
assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET: not even loopback is up
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError as error:
    assert error.errno == 101, error  # unreachable, where a closed port would refuse
else:
    raise AssertionError("there is a network")
"""


@pytest.fixture
def settings() -> Iterator[GuardSettings]:
    with site_folder() as made:
        yield made


@pytest.fixture
def study(tiny_base: Path) -> Study:
    return parse_study(tiny_study_text(tiny_base, tiny_base), "tiny")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a network namespace needs root on Linux")
def test_a_guard_without_network_trains_and_pays(settings: GuardSettings, study: Study) -> None:
    with guard_process(settings, before=_LEAVE_THE_NETWORK):
        assert train(settings, study).weights
    assert isinstance(entries(settings)[-1].details, Settled)
