"""The systemd units: a guard without network, a node without data, three users; and that systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "deploy" / "containers" / "systemd"
UNITS = ("hanse-coordinator.service", "hanse-guard@.service", "hanse-node@.service")


def settings(unit: str) -> dict[str, str]:
    """The last value of every setting."""
    text = (FOLDER / unit).read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", text, flags=re.MULTILINE))


def test_the_guard_has_no_network() -> None:
    guard = settings("hanse-guard@.service")
    assert guard["PrivateNetwork"] == "yes"
    assert guard["RestrictAddressFamilies"] == "AF_UNIX"
    assert "--part guard" in guard["ExecStart"]


def test_the_node_can_open_the_socket_and_nothing_of_the_guards() -> None:
    guard, node = settings("hanse-guard@.service"), settings("hanse-node@.service")
    assert node["User"] != guard["User"]
    assert guard["Group"] == node["SupplementaryGroups"] == "hanse-socket"
    assert node["Group"] != "hanse-socket", "what it writes is not for the guard's group"
    assert guard["RuntimeDirectory"] == "hanse-%i"
    assert guard["RuntimeDirectoryMode"] == "0750"
    for path in ("/var/lib/hanse-guard", "/var/lib/hanse-coordinator", "/srv/hanse"):
        assert f"-{path}" in node["InaccessiblePaths"].split()
    assert "--part node" in node["ExecStart"]


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_keeps_its_own_folder_and_gains_nothing(unit: str) -> None:
    found = settings(unit)
    user = found["User"]
    assert found["StateDirectory"] == user
    assert found["StateDirectoryMode"] == "0700"
    assert f"/var/lib/{user}/" in found["ExecStart"]
    assert found["NoNewPrivileges"] == found["ProtectHome"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["CapabilityBoundingSet"] == ""
    assert found["UMask"] == "0077"
    assert found["Restart"] == "always"


def test_every_user_is_made() -> None:
    text = (FOLDER / "hanse.sysusers").read_text(encoding="utf-8")
    made = set(re.findall(r"^u (\S+)", text, flags=re.MULTILINE))
    assert made == {settings(unit)["User"] for unit in UNITS}
    assert "g hanse-socket" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_them_without_a_complaint(tmp_path: Path) -> None:
    """In a copy where the program is one that exists."""
    for unit in UNITS:
        text = (FOLDER / unit).read_text(encoding="utf-8")
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text, flags=re.MULTILINE)
        (tmp_path / unit.replace("@", "@north")).write_text(text, encoding="utf-8")
    files = sorted(str(file) for file in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, complaints) == (0, [])
