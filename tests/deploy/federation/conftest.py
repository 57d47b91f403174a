"""A federation on this machine, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.study import Study
from deploy.federation.address import free_port
from deploy.federation.coordinator_directory import CoordinatorDirectory, create_federation


@pytest.fixture
def two_sites(tiny_study: Study) -> Study:
    """The tiny study, for two sites."""
    data = tiny_study.data.model_copy(update={"sites": 2, "partition": "iid"})
    return tiny_study.model_copy(update={"data": data})


@pytest.fixture
def federation(tmp_path: Path, two_sites: Study) -> CoordinatorDirectory:
    """A federation's folder; nothing runs."""
    return create_federation(tmp_path / "coordinator", "north", f"127.0.0.1:{free_port()}", two_sites)
