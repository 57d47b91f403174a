"""`hanse preflight` prints each check, and its exit code is the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import client.preflight
from client.preflight import PreflightCheck, PreflightReport
from tests.deploy.running import Hanse, runner
from tests.tiny import tiny_study_text


@pytest.fixture
def hanse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_base: Path
) -> Hanse:
    """Runs `hanse preflight` beside a study whose data does not exist: exit code, output, errors."""
    (tmp_path / "study.toml").write_text(tiny_study_text(tiny_base, tmp_path / "none.csv"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    return runner(monkeypatch, capsys, "preflight")


@pytest.fixture
def one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check of two fails."""
    checks = (PreflightCheck("first", True, "off by 1e-06"), PreflightCheck("second", False, "off by 7e-01"))
    monkeypatch.setattr(client.preflight, "preflight", lambda classifier, study: PreflightReport(checks))


def test_p14_every_phase_of_the_study_is_proved_without_data(hanse: Hanse) -> None:
    code, out, _ = hanse("study.toml")
    assert code == 0
    assert [line[:20] for line in out.splitlines()[::2]] == ["pass  head, float32:"] * 4 + [
        "pass  lora, float32:"
    ] * 4


def test_a_key_can_be_overridden(hanse: Hanse) -> None:
    code, out, _ = hanse(
        "study.toml", "--set", "model.trainable=bias", "--set", "model.warm_start_steps=0", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert found["ok"] is True
    assert [check["name"].partition(":")[0] for check in found["checks"]] == ["bias, float32"] * 4
    assert all(check["passed"] and "at most" in check["detail"] for check in found["checks"])


@pytest.mark.usefixtures("one_failure")
def test_p14_a_failed_check_is_shown_and_exits_with_1(hanse: Hanse) -> None:
    code, out, _ = hanse("study.toml")
    assert code == 1
    assert out == "pass  first\n      off by 1e-06\nFAIL  second\n      off by 7e-01\n"


@pytest.mark.usefixtures("one_failure")
def test_p14_json_of_a_failure_exits_with_1(hanse: Hanse) -> None:
    code, out, _ = hanse("study.toml", "--json")
    assert code == 1
    assert json.loads(out) == {
        "ok": False,
        "checks": [
            {"name": "first", "passed": True, "detail": "off by 1e-06"},
            {"name": "second", "passed": False, "detail": "off by 7e-01"},
        ],
    }


def test_a_study_that_does_not_exist_is_bad_input(hanse: Hanse) -> None:
    code, out, err = hanse("none.toml")
    assert (code, out) == (2, "")
    assert err.startswith("hanse: none.toml")
