"""`hanse robustness`: one table or one JSON, the same under the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from common.errors import BadInput
from deploy.commands.robustness import robustness
from tests.deploy.trained import trained_tiny_model

app = typer.Typer()
app.command()(robustness)


@pytest.fixture(scope="module")
def model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model that has learned."""
    return trained_tiny_model(tiny_base, tiny_data, tmp_path_factory.mktemp("trained"))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--texts", "60", "--attacked", "15"])


def report(*arguments: str) -> dict[str, Any]:
    ended = invoke(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_the_suite_is_deterministic_under_a_seed(model: Path, tiny_data: Path) -> None:
    once = report(str(model), str(tiny_data), "--seed", "5")
    assert report(str(model), str(tiny_data), "--seed", "5") == once
    other = report(str(model), str(tiny_data), "--seed", "6")
    assert other != once
    assert once["texts"] == 60
    assert once["accuracy"] > 0.8
    assert {check["name"] for check in once["checks"]} >= {"typo", "negation", "praise", "blame", "synonym"}
    assert once["substitution"]["accuracy_under_attack"] <= once["substitution"]["accuracy_before"]
    assert all(check["examples"] == [] for check in once["checks"])


def test_people_get_tables_and_failing_texts_only_when_they_ask(model: Path, tiny_data: Path) -> None:
    quiet = invoke(str(model), str(tiny_data))
    assert quiet.exit_code == 0, quiet.output
    assert "neutral ending" in quiet.stdout
    assert "accuracy under attack" in quiet.stdout
    assert "->" not in quiet.stdout.replace("0 -> 0", "").replace("0 -> 1", "").replace("1 -> ", "")[-200:]
    shown = invoke(str(model), str(tiny_data), "--show", "1")
    assert len(shown.stdout) > len(quiet.stdout)


def test_an_unknown_label_is_refused(model: Path, tiny_data: Path) -> None:
    ended = invoke(str(model), str(tiny_data), "--positive", "splendid")
    assert isinstance(ended.exception, BadInput)
    assert "--positive splendid" in str(ended.exception)
