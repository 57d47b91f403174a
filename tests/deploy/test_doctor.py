"""The doctor finds what is missing and says what mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import doctor as module
from tests.deploy.running import runner

ROOT = Path(__file__).resolve().parents[2]


def examined(
    *arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit code and output of `hanse doctor`."""
    ended = runner(monkeypatch, capsys, "doctor")(*arguments)
    return ended.code, ended.out


def by_name(text: str) -> dict[str, dict[str, Any]]:
    """Findings of ``--json`` by what was looked at."""
    return {finding["what"]: finding for finding in json.loads(text)}


def test_missing_assets_are_found_with_the_command_that_brings_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HANSE_CACHE", str(tmp_path / "empty"))
    code, shown = examined("--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    broken = [finding for finding in by_name(shown).values() if not finding["ok"]]
    assert len(broken) == 2
    assert {finding["mend"] for finding in broken} == {"hanse assets fetch"}
    code, shown = examined(capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    missing = [line for line in shown.splitlines() if line.startswith("MISSING")]
    assert len(missing) == 2
    assert all(line.endswith("mend: hanse assets fetch") for line in missing)


def test_all_is_well_where_nothing_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.assets.missing_assets", lambda: ())
    monkeypatch.setattr(module, "_ROOM_NEEDED", 0)
    code, shown = examined("--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    found = by_name(shown)
    assert {"python", "torch", "flwr", "opacus", "transformers", "device", "cores", "disk"} <= found.keys()
    assert all(finding["ok"] for finding in found.values())
    import torch

    assert found["torch"]["found"] == torch.__version__


def test_a_package_that_is_not_installed_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "no-such-package-of-that-name"))
    code, shown = examined("--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    finding = by_name(shown)["no-such-package-of-that-name"]
    assert (finding["found"], finding["ok"], finding["mend"]) == ("not installed", False, "make install")


def test_a_full_disk_is_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOM_NEEDED", 1 << 80)
    code, shown = examined("--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert by_name(shown)["disk"]["mend"] == "free 2 GB or run elsewhere"


def test_without_torch_the_doctor_still_speaks(tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; import deploy.cli; deploy.cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", script, "doctor"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "unknown without torch  mend: make install" in ended.stdout
