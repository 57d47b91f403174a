"""A release names every file and is signed; whatever is changed afterwards is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.keys import SiteKey
from common.study_file import parse_study, write_study
from server.economics.rewards import WHOLE_MODEL, Policy
from server.release import ReleaseTerms, make_release, verify_release
from server.run_directory import RunDirectory
from tests.tiny import tiny_study_text

KEY = SiteKey.from_seed(b"\x05" * 32)
TERMS = ReleaseTerms("Apache-2.0", Policy.SIZE)
HEAD = {"sequence": 3, "hash": "a" * 64}


@pytest.fixture
def run(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Path:
    """A finished run, as far as a release reads it."""
    return finished(tmp_path / "run", tiny_base, tiny_data)


def finished(path: Path, base: Path, data: Path, *overrides: str) -> Path:
    """Write the files of a finished run of two sites."""
    directory = RunDirectory(path)
    write_study(parse_study(tiny_study_text(base, data), "tiny", overrides), path / "study.toml")
    directory.run_identifier()
    directory.model.mkdir()
    (directory.model / "model.safetensors").write_bytes(b"weights")
    (directory.model / "README.md").write_text("# card\n")
    site = {"declared_size": 100, "epsilon": 7.9, "delta": 1e-5}
    result: dict[str, Any] = {
        "digest": "d" * 64,
        "study": "tiny",
        "private": True,
        "privacy": {"statement": "Each site's epsilon ..."},
        "ledger": {"run": "r", "heads": {"north": HEAD, "south": HEAD}},
        "sites": [{**site, "name": "north"}, {**site, "name": "south", "declared_size": 300}],
        "test": {"overall": {"accuracy": 0.8, "macro_f1": 0.79, "loss": 0.4}},
        "versions": {"hanse": "0", "peft": None},
    }
    directory.result.write_text(json.dumps(result))
    return path


def test_a_release_says_what_it_is_and_verifies(run: Path, tmp_path: Path) -> None:
    made = make_release(run, TERMS, KEY, tmp_path / "out")
    body: dict[str, Any] = verify_release(tmp_path / "out", KEY.public_hex)
    assert body == json.loads(json.dumps(made))
    assert set(body["files"]) == {"model.safetensors", "README.md"}
    assert [(s["name"], s["share_millionths"]) for s in body["sites"]] == [("north", 250_000), ("south", 750_000)]
    assert sum(site["share_millionths"] for site in body["sites"]) == WHOLE_MODEL
    assert body["ledger_heads"] == {"north": HEAD, "south": HEAD}
    assert (body["licence"], body["study"]) == ("Apache-2.0", "d" * 64)


@pytest.mark.parametrize(
    ("tamper", "match"),
    [
        (lambda model: (model / "model.safetensors").write_bytes(b"weightz"), "model.safetensors was changed"),
        (lambda model: (model / "README.md").unlink(), "README.md is missing"),
        (lambda model: (model / "more.py").write_text("import os"), "more.py was added"),
        (lambda model: (model / "sub").mkdir() or (model / "sub" / "x").write_text(""), "sub/x was added"),
        (lambda model: (model / "link").symlink_to(model / "README.md"), "link was added"),
        (
            lambda model: (model.parent / "release.json").write_text(
                (model.parent / "release.json").read_text().replace("750000", "749999")
            ),
            "not the key's over these values",
        ),
        (lambda model: (model.parent / "release.json").write_bytes(b"\xff"), "is not UTF-8"),
    ],
)
def test_whatever_is_changed_is_found(run: Path, tmp_path: Path, tamper: Any, match: str) -> None:
    make_release(run, TERMS, KEY, tmp_path / "out")
    tamper(tmp_path / "out" / "model")
    with pytest.raises(AuditFailure, match=match):
        verify_release(tmp_path / "out", KEY.public_hex)


def test_another_key_and_no_release_are_told_apart(run: Path, tmp_path: Path) -> None:
    make_release(run, TERMS, KEY, tmp_path / "out")
    with pytest.raises(AuditFailure, match="not by the key given"):
        verify_release(tmp_path / "out", SiteKey.from_seed(b"\x06" * 32).public_hex)
    with pytest.raises(BadInput, match="folder of a release"):
        verify_release(run, KEY.public_hex)


def test_p19_a_central_release_names_no_witnessed_heads_and_no_contributions(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", tiny_base, tiny_data, "privacy.unit=institution")
    assert make_release(run, TERMS, KEY, tmp_path / "out")["ledger_heads"] is None
    with pytest.raises(BadInput, match="contributions stay with the coordinator"):
        make_release(run, ReleaseTerms("MIT", Policy.SHAPLEY), KEY, tmp_path / "other")


def test_what_cannot_be_released_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no contribution\.json"):
        make_release(run, ReleaseTerms("MIT", Policy.SHAPLEY), KEY, tmp_path / "out")
    with pytest.raises(BadInput, match="--licence"):
        ReleaseTerms("  ", Policy.SIZE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BadInput, match="is not empty"):
        make_release(run, TERMS, KEY, tmp_path / "full")
    (run / "result.json").unlink()
    with pytest.raises(BadInput, match="finished run"):
        make_release(run, TERMS, KEY, tmp_path / "out")
