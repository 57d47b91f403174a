"""Simulations under real policies and ledgers: budgets bind across runs, and what is left verifies elsewhere."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from common.privacy.ledger.rules import VerifiedLedger, verified_entries
from common.privacy.mechanism import NotPrivate
from common.virtual_sites import virtual_sites
from deploy.default_study import load_study
from tests.client.samples import policy_of
from tests.tiny import tiny_rows, tiny_study_text

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def hanse(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """A real process of the command."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=ROOT,
        env=os.environ | {"HANSE_STATE": str(state), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def study_file(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny study."""
    file = tmp_path / "study.toml"
    file.write_text(tiny_study_text(tiny_base, tiny_data), encoding="utf-8")
    return file


def verified_bundle(run: Path, site: str) -> VerifiedLedger:
    """A site's bundle in a run directory, verified under the key that it names."""
    data = (run / "sites" / site / "ledger.jsonl").read_bytes()
    return verified_entries(data, json.loads(data.splitlines()[0])["public_key"])


def write_policies(study_file: Path, folder: Path, approval: str = "none") -> list[str]:
    """A folder a site with a policy that allows epsilon 8 once."""
    names = []
    for site in virtual_sites(load_study(study_file, [])).sites:
        own = folder / site.name
        own.mkdir(parents=True, mode=0o700)
        policy = policy_of(
            site={"name": site.name}, dataset={"declared_size": site.declared_size}, allow={"approval": approval}
        )
        text = tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True))
        (own / "policy.toml").write_text(text, encoding="utf-8")
        names.append(site.name)
    return names


def test_p05_p06_a_second_run_under_a_policy_is_refused_with_exit_code_3(study_file: Path, tmp_path: Path) -> None:
    """Naming spent, asked and left, before training; nothing of the refused run stays but the ledger's entry."""
    names = write_policies(study_file, tmp_path / "sites")
    arguments = ["simulate", str(study_file), "--sites", str(tmp_path / "sites"), "--out"]
    first = hanse(*arguments, str(tmp_path / "one"), "--json", state=tmp_path / "state")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["claims"] == {name: {"epsilon": 8.0, "delta": pytest.approx(1e-5)} for name in names}
    second = hanse(*arguments, str(tmp_path / "two"), state=tmp_path / "state")
    assert second.returncode == 3
    assert "spent 7.9" in second.stderr
    assert "asked 7.9" in second.stderr
    assert "left 0 of 8" in second.stderr
    assert "Traceback" not in second.stderr
    assert not (tmp_path / "two").exists()
    shown = hanse("budget", "--site", str(tmp_path / "sites" / names[0]), "--json", state=tmp_path / "state")
    assert shown.returncode == 0, shown.stderr


def test_p18_no_run_without_approval(study_file: Path, tmp_path: Path) -> None:
    names = write_policies(study_file, tmp_path / "sites", approval="required")
    arguments = ["simulate", str(study_file), "--sites", str(tmp_path / "sites"), "--out", str(tmp_path / "run")]
    refused = hanse(*arguments, state=tmp_path / "state")
    assert refused.returncode == 3
    assert "hanse policy approve" in refused.stderr
    for name in names:
        site = str(tmp_path / "sites" / name)
        approved = hanse("policy", "approve", str(study_file), "--site", site, state=tmp_path / "state")
        assert approved.returncode == 0, approved.stderr
    assert hanse(*arguments, state=tmp_path / "state").returncode == 0


def test_p21_runs_without_policies_add_up_in_one_ledger(study_file: Path, tmp_path: Path) -> None:
    """Each run states its own epsilon; the claim beside it is that of all runs of the study's name."""
    for number, epsilon in ((1, 8.0), (2, 16.0)):
        out = tmp_path / f"run-{number}"
        ended = hanse("simulate", str(study_file), "--out", str(out), "--json", state=tmp_path / "state")
        assert ended.returncode == 0, ended.stderr
        result = json.loads(ended.stdout)
        assert {claim["epsilon"] for claim in result["claims"].values()} == {epsilon}
        assert all(7.8 < site["epsilon"] <= 8.0 for site in result["sites"])
        for site in result["sites"]:
            verified = verified_bundle(out, site["name"])
            head = result["ledger"]["heads"][site["name"]]
            assert (verified.head.sequence, verified.head.hash) == (head["sequence"], head["hash"])
    audited = hanse(
        "audit", "ledger", *map(str, sorted((tmp_path / "run-2" / "sites").glob("*/ledger.jsonl"))),
        "--run", str(tmp_path / "run-2"), "--no-prv", "--json", state=tmp_path / "state",
    )  # fmt: skip
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_p02_persons_as_units_run_end_to_end(tiny_base: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    with data.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "region", "person"])
        for index, (text, label, _) in enumerate(tiny_rows(600, seed=5)):
            person = index // 2
            writer.writerow([text, label, ("north", "south", "east", "west")[person % 4], f"p{person}"])
    study = tmp_path / "study.toml"
    more = 'unit = "group"\ngroup_column = "person"\nrows_per_group = 4'
    study.write_text(tiny_study_text(tiny_base, data, privacy=more), encoding="utf-8")
    out = tmp_path / "run"
    ended = hanse("simulate", str(study), "--out", str(out), "--json", state=tmp_path / "state")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["privacy"]["unit"] == "group"
    assert "all rows of one person" in result["privacy"]["statement"]
    assert all(40 <= site["declared_size"] <= 75 for site in result["sites"])
    opened = verified_bundle(out, "north").entries[0]
    assert opened.details.terms.unit == "group"  # type: ignore[union-attr]  # the first entry opens


def test_p19_institutions_as_units_run_end_to_end(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = hanse(
        "simulate", str(study_file), "--set", "privacy.unit=institution", "--out", str(out), "--json",
        state=tmp_path / "state",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["privacy"]["unit"] == "institution"
    assert any("the coordinator" in line for line in result["privacy"]["not_covered"])
    assert {round(site["epsilon"], 1) for site in result["sites"]} == {8.0}
    entries = verified_bundle(out, "north").entries
    assert [str(entry.kind) for entry in entries] == ["open", "release", "release", "release"]
    assert all(isinstance(entry.mechanism, NotPrivate) for entry in entries[1:])


def test_p22_what_a_virtual_site_keeps_is_for_its_owner_alone(study_file: Path, tmp_path: Path) -> None:
    ended = hanse("simulate", str(study_file), "--out", str(tmp_path / "run"), state=tmp_path / "state")
    assert ended.returncode == 0, ended.stderr
    for file in (tmp_path / "state" / "virtual-sites" / "tiny").rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file
