"""`hanse audit ledger`: numbered checks in words or JSON; exit code 4 for a violation, 2 for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.common.audit.samples import KEYS, NAMES, PLAN_STORY, bundle, written
from tests.deploy.audit_evidence import write_evidence
from tests.deploy.running import Hanse, runner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evidence: Path) -> Hanse:
    """Runs `hanse audit ledger` beside the evidence: exit code, output, errors."""
    monkeypatch.chdir(evidence)

    return runner(monkeypatch, capsys, "audit", "ledger", "--no-prv")


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """``sites/NAME/ledger.jsonl``, ``NAME.pub`` and ``run/``, written as Hanse writes them."""
    return write_evidence(tmp_path)


LEDGERS = ("sites/north/ledger.jsonl", "sites/south/ledger.jsonl")
PUBLIC = ("--key", "north.pub", "--key", KEYS["south"].public_hex)
RUN = ("--run", "run")


def test_honest_evidence_passes_in_words(hanse: Hanse) -> None:
    code, out, err = hanse(*LEDGERS, *PUBLIC, *RUN)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()[1:12]]
    assert [(line[0], line[-1]) for line in lines] == [(str(number), "passed") for number in range(1, 12)]
    assert "person a person at all sites" in out
    assert "Not proven: that the recorded mechanism is what ran." in out
    assert "Neighbouring datasets differ by one unit added or removed. Unit group is a person" in out


def test_honest_evidence_passes_as_json(hanse: Hanse) -> None:
    code, out, _ = hanse(*LEDGERS, *PUBLIC, *RUN, "--json")
    assert code == 0
    found = json.loads(out)
    assert {check["verdict"] for check in found["checks"]} == {"passed"}
    assert [ledger["site"] for ledger in found["ledgers"]] == ["north", "south"]
    assert found["unproven"].startswith("Not proven")


def test_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, deploy.commands.audit; print([m for m in ('torch', 'flwr', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_p02_a_person_s_figure_comes_first_and_sampling_is_stated(hanse: Hanse) -> None:
    out = hanse(*LEDGERS, *PUBLIC, *RUN).out
    person, site, study = (out.index(f"\n{scope} ") for scope in ("person", "site", "study"))
    assert person < site < study
    assert "each unit enters each step by itself with that probability" in out


def test_json_names_the_entry_of_a_finding(hanse: Hanse, evidence: Path) -> None:
    _cut(evidence)
    checks = json.loads(hanse(*LEDGERS, *PUBLIC, *RUN, "--json").out)["checks"]
    assert [finding["entry"] for finding in checks[5]["findings"] if finding["severity"] == "violation"] == [6]


def _cut(evidence: Path) -> None:
    shorter = bundle("north", written("north", PLAN_STORY[:4]))
    (evidence / "sites/north/ledger.jsonl").write_bytes(shorter.data)


def test_a_violation_names_its_checks_and_exits_with_4(hanse: Hanse, evidence: Path) -> None:
    _cut(evidence)
    code, out, err = hanse(*LEDGERS, *PUBLIC, *RUN)
    assert code == 4
    assert err.splitlines() == [
        "hanse: audit: violations found by check 6 (witnessed heads), 7 (recorded rounds are in the ledgers)"
    ]
    assert "6 violation: sites/north/ledger.jsonl: missing entries: head 6" in out


def test_a_violation_as_json_exits_with_4(hanse: Hanse, evidence: Path) -> None:
    _cut(evidence)
    code, out, err = hanse(*LEDGERS, *PUBLIC, *RUN, "--json")
    assert (code, err) == (4, "")
    failed = [check["number"] for check in json.loads(out)["checks"] if check["verdict"] == "failed"]
    assert failed == [6, 7]


def test_a_witness_file_alone_finds_a_truncation(hanse: Hanse, evidence: Path) -> None:
    _cut(evidence)
    code, out, _ = hanse(*LEDGERS, *PUBLIC, "--witness", "run/witness.jsonl", "--json")
    checks = json.loads(out)["checks"]
    assert (code, checks[5]["verdict"], checks[6]["verdict"]) == (4, "failed", "not-possible")


def test_a_stranger_s_key_is_a_violation(hanse: Hanse) -> None:
    code, _, err = hanse(*LEDGERS, "--key", "north.pub")
    assert code == 4
    assert "check 2 (key)" in err


def test_sites_can_be_named(hanse: Hanse, evidence: Path) -> None:
    for site in NAMES:
        other = bundle(site, written(site, tuple(replace(draft, note="again") for draft in PLAN_STORY)))
        (evidence / f"{site}-bundle").write_bytes(other.data)
    anonymous = hanse("north-bundle", "south-bundle", *PUBLIC, *RUN)
    assert anonymous[0] == 0
    assert "cannot be told; name its key" in anonymous[1]
    assert hanse("north=north-bundle", "south=south-bundle", *PUBLIC, *RUN)[0] == 4
    assert hanse("north-bundle", "south-bundle", "--key", "north=north.pub", *PUBLIC[2:], *RUN)[0] == 4


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nothing.jsonl",), "nothing.jsonl: cannot be read"),
        ((*LEDGERS, "--key", "abc"), "--key abc: must be 64 lower-case hexadecimal digits, or a file of them"),
        ((*LEDGERS, "--key", "run/run.json"), "--key run/run.json: must be 64"),
        ((*LEDGERS, "--run", "sites"), "run.json: cannot be read"),
        ((*LEDGERS, "--witness", "hub=nothing"), "nothing: cannot be read"),
        ((*LEDGERS, "--witness", "north.pub"), "north.pub: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(hanse: Hanse, arguments: tuple[str, ...], part: str) -> None:
    code, out, err = hanse(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert part in err


def test_any_bytes_as_a_ledger_are_a_violation(hanse: Hanse, evidence: Path) -> None:
    (evidence / "x").write_bytes(b"\xff\x00 not a ledger [red]")
    code, out, _ = hanse("x", "--key", "north.pub")
    assert code == 4
    assert "1 violation: x: ledger check 1 (framing)" in out
