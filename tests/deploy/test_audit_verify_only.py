"""`hanse audit verify-only`: the single file's own words and exit codes, over one bundle or several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.common.audit.samples import HONEST, KEYS, PLAN_STORY, bundle, written
from tests.deploy.audit_evidence import write_evidence
from tests.deploy.running import ROOT, Hanse, assert_one_line, runner

NORTH, SOUTH = "sites/north/ledger.jsonl", "sites/south/ledger.jsonl"
KEY = KEYS["north"].public_hex
HEADS = (
    [each.head for each in HONEST.runs[0].witness.heads if each.site == "north"] if HONEST.runs[0].witness else []
)
LAST = f"{HEADS[-1].sequence}:{HEADS[-1].hash}"


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Bundles, keys and a run."""
    return write_evidence(tmp_path)


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evidence: Path) -> Hanse:
    """Runs `hanse audit verify-only` beside the evidence."""
    monkeypatch.chdir(evidence)
    return runner(monkeypatch, capsys, "audit", "verify-only")


def test_it_says_just_what_the_file_says_alone(hanse: Hanse, evidence: Path) -> None:
    command = [sys.executable, "-I", str(ROOT / "deploy" / "verify_ledger.py"), NORTH, KEY, LAST]
    alone = subprocess.run(command, cwd=evidence, capture_output=True, text=True, check=True)
    ended = hanse(NORTH, "--key", "north.pub", "--head", LAST)
    assert (ended.code, ended.err) == (0, "")
    first, _, rest = ended.out.partition("\n")
    assert first == f"$ python verify_ledger.py {NORTH} {KEY} {LAST}"
    assert rest == alone.stdout


def test_several_bundles_each_with_its_key_and_its_witnessed_heads(hanse: Hanse) -> None:
    ended = hanse(NORTH, SOUTH, "--key", "south.pub", "--key", KEY, "--witness", "run/witness.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("6 entries, head") == 2
    assert "No witnessed head was given" not in ended.out


def test_p08_a_cut_end_is_a_violation_named_by_check_and_entry(hanse: Hanse, evidence: Path) -> None:
    (evidence / NORTH).write_bytes(bundle("north", written("north", PLAN_STORY[:4])).data)
    ended = hanse(NORTH, SOUTH, "--key", KEY, "--key", "south.pub", "--witness", "run/witness.jsonl")
    assert ended.code == 4
    assert "VIOLATION check 9 (completeness): entry 6: was witnessed" in ended.out
    assert "6 entries, head" in ended.out, "the other site's is verified all the same"
    assert ended.err.splitlines() == [f"hanse: verify-only: violation in {NORTH}"]


def test_p01_a_bundle_under_a_stranger_s_key_is_a_violation(hanse: Hanse) -> None:
    ended = hanse(NORTH, "--key", "south.pub")
    assert ended.code == 4
    assert "VIOLATION check 2 (key)" in ended.out
    assert hanse(NORTH, "--key", "north=south.pub", "--key", "north.pub").code == 4, "the named key holds"


def test_any_bytes_end_as_a_violation(hanse: Hanse, evidence: Path) -> None:
    (evidence / "x").write_bytes(b"\xff\x00")
    assert hanse("x", "--key", KEY).code == 4


def test_what_cannot_be_used_is_refused(hanse: Hanse) -> None:
    assert_one_line(hanse(NORTH, SOUTH, "--key", KEY, "--head", LAST), 2, "which of the 2 bundles is meant")
    assert_one_line(hanse("nothing", "--key", KEY), 2, "nothing: cannot be read")
    assert_one_line(hanse(NORTH, "--key", "abc"), 2, "--key abc")
    assert hanse(NORTH, "--key", KEY, "--head", "6").code == 2
    assert hanse(NORTH).code == 2, "a key is what verification begins with"
