"""The commands, while no coordinator runs; ``test_end_to_end`` uses them with one."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.study import Study
from common.study_file import write_study
from deploy.federation.control import FlowerNode
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.node_keys import create_node_key
from deploy.federation.registry import SiteEntry
from deploy.federation.site_views import site_views


def _hanse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_a_federation_is_made_and_sites_are_invited_and_registered(tmp_path: Path, two_sites: Study) -> None:
    """In the operator's words, before anything runs."""
    folder, study = tmp_path / "coordinator", tmp_path / "study.toml"
    write_study(two_sites, study)
    made = _hanse("federation", "init", str(folder), "--name", "north", "--address", "127.0.0.1:8443",
                  "--study", str(study))  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "hanse federation invite" in made.stdout
    invited = _hanse("federation", "invite", "clinic", "--federation", str(folder))
    assert invited.returncode == 0, invited.stderr
    assert (folder / "invitations" / "clinic.zip").is_file()
    key = create_node_key(tmp_path / "site" / "node.key")
    public = str(tmp_path / "site" / "node.key.pub")
    wrong = _hanse(
        "federation", "register", "clinic", public, "--federation", str(folder), "--fingerprint", "SHA256:x"
    )
    assert (wrong.returncode, key.fingerprint in wrong.stderr) == (2, True)
    registered = _hanse("federation", "register", "clinic", public, "--federation", str(folder))
    assert registered.returncode == 0, registered.stderr
    assert key.fingerprint in registered.stdout
    assert "lets the site in when it starts" in registered.stdout
    status = _hanse("federation", "status", "--federation", str(folder))
    assert status.returncode == 0, status.stderr
    assert "hanse coordinator run" in status.stdout
    assert "clinic" in status.stdout
    revoked = _hanse("federation", "revoke", "clinic", "--federation", str(folder))
    assert revoked.returncode == 0, revoked.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["federation", "status"], 2, "hanse federation init"),
        (["federation", "init", "made", "--name", "n", "--address", "0.0.0.0:1"], 2, "not one to listen on"),
        (["federation", "invite", "../x", "--federation", "{}"], 2, "must be a name"),
        (["federation", "invite", "x", "--federation", "{}", "--out", "{}/absent/x.zip"], 2, "there is no folder"),
        (["federation", "register", "x", "absent.pub", "--federation", "{}"], 2, "cannot be read"),
        (["federation", "revoke", "x", "--federation", "{}"], 2, "is not registered"),
        (["coordinator", "run", "--federation", "absent"], 2, "holds no federation.toml"),
        (["run", "submit", "--federation", "{}"], 1, "does not answer"),
        (["run", "stop", "--federation", "{}"], 1, "does not answer"),
        (["run", "resume", "x", "--federation", "{}"], 1, "does not answer"),
        (["run", "status", "x", "--federation", "{}"], 2, "no such run"),
    ],
)
def test_errors_say_what_to_do(
    federation: CoordinatorDirectory, arguments: list[str], code: int, message: str
) -> None:
    done = _hanse(*[argument.replace("{}", str(federation.path)) for argument in arguments])
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_json_errors_are_objects(federation: CoordinatorDirectory) -> None:
    done = _hanse("run", "stop", "--federation", str(federation.path), "--json")
    assert json.loads(done.stdout)["error"] == "RunFailed"


def test_a_site_is_connected_away_or_unknown(tmp_path: Path) -> None:
    key = create_node_key(tmp_path / "site" / "node.key")
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    site = SiteEntry(name="clinic", public_key=key.openssh, registered_at=early)

    def state(entry: SiteEntry, nodes: list[FlowerNode] | None) -> tuple[str, datetime | None]:
        (view,) = site_views([entry], nodes)
        return view.state, view.last_seen

    online = FlowerNode(7, "clinic", key.pem, "online", late, early)
    offline = FlowerNode(7, "clinic", key.pem, "offline", early, late)
    new = FlowerNode(7, "clinic", key.pem, "registered", None, None)
    revoked = site.model_copy(update={"revoked_at": late})
    assert state(site, [online]) == ("connected", late)
    assert state(site, [offline]) == ("away", late)
    assert state(site, [new]) == state(site, []) == ("never connected", None)
    assert state(site, None) == ("unknown", None)
    assert state(revoked, [online])[0] == state(revoked, None)[0] == "revoked"
