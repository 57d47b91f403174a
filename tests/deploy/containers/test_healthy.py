"""What a container's health check says of a role."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from client.guard import Guard, GuardSettings, socket_of
from deploy.federation.coordinator_directory import create_federation
from tests.client.guards import site_folder
from tests.deploy.federation.conftest import free_port

FILE = Path(__file__).parents[3] / "deploy" / "containers" / "healthy.py"


@pytest.fixture
def healthy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthy", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings() -> Iterator[GuardSettings]:
    with site_folder() as made:
        yield made


def test_a_guard_is_healthy_while_it_serves(healthy: ModuleType, settings: GuardSettings) -> None:
    place = str(socket_of(settings.directory))
    assert healthy.main(["guard", place]) == 1
    with Guard(settings):
        assert healthy.main(["guard", place]) == 0
    assert healthy.main(["guard", place]) == 1


def test_a_coordinator_that_does_not_run_is_not_healthy(healthy: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "coordinator"
    create_federation(folder, "trial", f"127.0.0.1:{free_port()}")
    assert healthy.main(["coordinator", str(folder)]) == 1


@pytest.mark.parametrize("arguments", [[], ["guard"], ["node", "/x"], ["guard", "/x", "/y"]])
def test_another_command_line_is_refused(healthy: ModuleType, arguments: list[str]) -> None:
    assert healthy.main(arguments) == 2
