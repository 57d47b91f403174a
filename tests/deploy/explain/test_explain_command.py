"""`hanse explain` writes a page that needs nothing else, and refuses what is not public."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from common.errors import BadInput, PolicyRefusal
from deploy.commands.explain import explain
from tests.deploy.trained import trained_tiny_model

app = typer.Typer()
app.command()(explain)


@pytest.fixture(scope="module")
def model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model that has learned."""
    return trained_tiny_model(tiny_base, tiny_data, tmp_path_factory.mktemp("trained"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_page_and_json_hold_the_same_and_the_page_needs_nothing_else(
    model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = (model, "a <b>good</b> film", "the bad song", "--data", tiny_data, "--attributed", 8)
    ended = invoke(*arguments, "--out", tmp_path)
    assert ended.exit_code == 0, ended.output
    assert "public texts only" in ended.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "explanation.json").read_text(encoding="utf-8"))
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("data:image/png;base64,") == 3  # attention of two texts, one projection
    assert [each["label"] for each in found["texts"]] == ["positive", "negative"]
    assert found["worst_completeness_error"] < 0.01
    assert f"completeness error {found['texts'][0]['completeness_error']:.3%}" in page
    assert len(found["surrogates"]) == 2
    assert {row["label"] for row in found["influential"]} == {"negative", "positive"}
    assert "completeness error at most" in ended.stdout


def test_the_same_seed_gives_the_same(model: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = (model, "--data", tiny_data, "--attributed", 5, "--json")
    once = invoke(*arguments, "--out", tmp_path / "a").stdout
    assert invoke(*arguments, "--out", tmp_path / "b").stdout == once
    assert invoke(*arguments, "--out", tmp_path / "c", "--seed", 8).stdout != once
    pages = [(tmp_path / name / "index.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_a_single_text_needs_no_data(model: Path, tmp_path: Path) -> None:
    ended = invoke(model, "a good film", "--out", tmp_path, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert (found["surrogates"], found["projection"], found["influential"]) == ([], None, [])


def test_p15_a_sites_data_is_refused_before_anything_is_written(
    model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "policy.toml").write_text("")
    data = tmp_path / "rows.csv"
    data.write_bytes(tiny_data.read_bytes())
    ended = invoke(model, "--data", data, "--out", tmp_path / "out")
    assert isinstance(ended.exception, PolicyRefusal)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "what"), [((), "at least one public text"), ((" ",), "TEXT 1: is empty")])
def test_nothing_to_explain_is_refused(model: Path, arguments: tuple[str, ...], what: str) -> None:
    ended = invoke(model, *arguments)
    assert isinstance(ended.exception, BadInput)
    assert what in str(ended.exception)
