"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# No test's virtual site opens a ledger in the user's own folder.
os.environ["HANSE_STATE"] = tempfile.mkdtemp(prefix="hanse-state-")

from common.study import Study
from tests.tiny import tiny_study_text, write_tiny_base, write_tiny_data

# A landing is judged by the same examples every time; `make explore` looks for new ones.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that no process is left alone with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session", autouse=True)
def _state_folder() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["HANSE_STATE"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny BERT."""
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV of 400 tiny rows in four regions."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "rows.csv")


@pytest.fixture
def tiny_study(tiny_base: Path, tiny_data: Path) -> Study:
    """A small study over the tiny model and data; change it with ``parse_study`` overrides."""
    from common.study_file import parse_study

    return parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny")
