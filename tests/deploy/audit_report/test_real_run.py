"""The report of a run that was really simulated, made here and again from a copy of the code elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.study_file import parse_study, write_study
from deploy.simulation import simulate
from tests.deploy.audit_report.samples import parsed, words_of_pdf
from tests.deploy.running import ROOT
from tests.tiny import tiny_study_text

pytestmark = pytest.mark.slow

QUICK = (
    "study.name=audited",
    "data.sites=2",
    "data.partition=iid",
    "model.warm_start_steps=0",
    "federation.rounds=2",
    "simulation.workers=1",
)


def _reported(code: Path, folder: Path) -> Path:
    """Report on ``folder``'s run with the code that lies in ``code``, in a process of its own, without state."""
    script = (
        "import deploy.cli, sys; sys.argv[0] = 'hanse'; print(deploy.__file__, file=sys.stderr); deploy.cli.main()"
    )
    keys = [_key(file) for file in sorted(folder.glob("run/sites/*/ledger.jsonl"))]
    options = [part for key in keys for part in ("--key", key)]
    done = subprocess.run(
        [sys.executable, "-c", script, "audit", "report", "run", "--no-prv", "--out", "out", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(code), "HANSE_STATE": str(folder / "state"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(code) in done.stderr
    return folder / "out"


def _key(bundle: Path) -> str:
    """The site's key; an auditor would have it from elsewhere."""
    key: str = json.loads(bundle.read_text(encoding="utf-8").splitlines()[0])["public_key"]
    return key


@pytest.fixture(scope="module")
def simulated(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run directory ``run`` of two sites and two rounds, and its report in ``out``."""
    folder = tmp_path_factory.mktemp("audited")
    study = parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny", overrides=QUICK)
    (folder / "run").mkdir()
    write_study(study, folder / "run" / "study.toml")
    simulate(study, folder / "run")
    _reported(ROOT, folder)
    return folder


def test_its_figures_are_those_of_the_run_in_json_page_and_print(simulated: Path) -> None:
    found: dict[str, Any] = json.loads((simulated / "out/report.json").read_text(encoding="utf-8"))
    result = json.loads((simulated / "run/result.json").read_text(encoding="utf-8"))
    assert {check["verdict"] for check in found["ledger_audit"]["checks"]} == {"passed"}
    page, pdf = parsed(simulated / "out/report.html").text, words_of_pdf(simulated / "out/report.pdf")
    for site, budget in zip(result["sites"], found["budgets"], strict=True):
        assert budget["points"][-1]["charged"] == pytest.approx(site["epsilon"], rel=1e-3)
        for figure in (site["epsilon"], site["noise_multiplier"], budget["points"][-1]["charged"]):
            assert f"{figure:.4f}" in page
            assert f"{figure:.4f}" in pdf
    assert [run["digest"] for run in found["runs"]] == [result["digest"]]
    assert f"{result['test']['overall']['accuracy']:.4f}" in page
    assert str(ROOT) not in page
    assert "tiny/rows.csv" not in page, "where the data lies is nobody's concern"


def test_from_another_checkout_and_folder_it_is_the_same_to_the_byte_but_for_the_date(
    simulated: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    for room in ("common", "client", "server", "deploy"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(simulated / "run", elsewhere / "run")
    again = _reported(checkout, elsewhere)
    for name in ("report.json", "report.html"):
        first, second = (_dateless((folder / name).read_bytes()) for folder in (simulated / "out", again))
        assert first == second
        assert b"DATE" in first


def _dateless(data: bytes) -> bytes:
    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\dZ", b"DATE", data)
