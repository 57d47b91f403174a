"""A federation of real processes on this machine: SuperLink, SuperExec and two SuperNodes, TLS and keys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.privacy.ledger.keys import private_folder, write_private
from common.study import Study
from common.study_file import write_study
from deploy.federation.certificates import create_authority
from deploy.federation.control import connect
from deploy.federation.coordinator_directory import CoordinatorDirectory, open_federation
from deploy.federation.flower_environment import flower_environment
from deploy.federation.invitation import read_invitation
from deploy.federation.node_keys import create_node_key
from deploy.federation.processes import Supervisor
from deploy.federation.runs import run_views
from deploy.federation.supernode import SuperNodeSettings, supernode_plans
from tests.deploy.federation.conftest import free_port
from tests.deploy.federation.tiny_app import tiny_bundle

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY)}


def _hanse(*arguments: str, fails: bool = False) -> Any:
    """Run a command as an operator does; what it printed, parsed."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments, "--json"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return json.loads(done.stdout)


def _wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)
    return found


@contextmanager
def _coordinator(folder: Path, log: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """`hanse coordinator run`; yields what it told so far. Ended by SIGTERM, it must leave with 0."""
    command = [sys.executable, "-m", "deploy.cli", "coordinator", "run", "--federation", str(folder), "--json"]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=_environment(), stdout=output, stderr=subprocess.STDOUT)

    def told() -> list[dict[str, Any]]:
        return _lines(log)

    try:
        _wait(lambda: process.poll() is not None or any(e["event"] == "ready" for e in told()[2:]))
        yield told
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, log.read_text()


def _settings(site: Path, bundle: Path) -> SuperNodeSettings:
    """A site's folder, made from the invitation that it was sent."""
    invitation = read_invitation(bundle)
    private_folder(site / "flower")
    private_folder(site / "logs")
    write_private(site / "superexec.secret", os.urandom(32))
    (site / "ca.crt").write_bytes(invitation.authority)
    return SuperNodeSettings(
        coordinator=invitation.address,
        authority=site / "ca.crt",
        key=site / "node.key",
        secret=site / "superexec.secret",
        home=site / "flower",
        logs=site / "logs",
        config={"guard": f"/run/hanse of {site.name}/guard.sock", "partition-id": 3},
    )


@contextmanager
def _node(settings: SuperNodeSettings) -> Iterator[list[Any]]:
    stop, events = threading.Event(), []  # type: ignore[var-annotated]
    thread = threading.Thread(target=Supervisor(supernode_plans(settings), events.append).run, args=[stop])
    thread.start()
    try:
        yield events
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def _refusal(settings: SuperNodeSettings) -> str:
    """What a node that is refused says before it ends."""
    plan = supernode_plans(settings)[0]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "flower-supernode"), *plan.arguments],
        env=flower_environment(settings.home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def _states(folder: Path) -> dict[str, str]:
    return {s["site"]: s["state"] for s in _hanse("federation", "status", "--federation", str(folder))["sites"]}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def _left_over(folder: Path) -> list[str]:
    """Processes that belong to the federation in ``folder`` or to its sites."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"FLWR_HOME={folder}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def _answer_of(directory: CoordinatorDirectory, path: str, **headers: str) -> int:
    import ssl

    address = directory.federation().local_address
    request = urllib.request.Request(
        f"https://{address}{path}", data=b"", headers={"content-type": "application/protobuf"} | headers
    )
    context = ssl.create_default_context(cafile=str(directory.authority[1]))
    try:
        return int(urllib.request.urlopen(request, context=context, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def folder(tmp_path: Path, two_sites: Study) -> Path:
    """A coordinator's folder with two registered and invited sites, made by the commands."""
    study, folder = tmp_path / "study.toml", tmp_path / "all" / "coordinator"
    write_study(two_sites, study)
    _hanse("federation", "init", str(folder), "--name", "north", "--address", f"127.0.0.1:{free_port()}",
           "--study", str(study))  # fmt: skip
    for site in ("clinic", "hospital"):
        key = create_node_key(tmp_path / "all" / site / "node.key")
        _hanse("federation", "register", site, str(tmp_path / "all" / site / "node.key.pub"),
               "--federation", str(folder), "--fingerprint", key.fingerprint)  # fmt: skip
        _hanse("federation", "invite", site, "--federation", str(folder), "--out", str(tmp_path / f"{site}.zip"))
    return folder


def test_a_run_is_submitted_stopped_and_resumed(folder: Path, tmp_path: Path) -> None:
    """Hanse's own ServerApp, waiting for its sites: no node is there."""
    of = ("--federation", str(folder))
    with _coordinator(folder, tmp_path / "coordinator.log"):
        assert _states(folder) == {"clinic": "never connected", "hospital": "never connected"}
        assert "already" in _hanse("coordinator", "run", *of, fails=True)["message"]
        submitted = _hanse("run", "submit", "--name", "first", *of)
        assert submitted["state"] in ("pending", "starting", "running")
        waiting = _wait(lambda: [r for r in _hanse("run", "status", *of) if r["last_event"] == "connecting"])
        assert waiting[0]["state"] == "running"
        assert "still going" in _hanse("run", "submit", *of, fails=True)["message"]
        assert _hanse("run", "stop", *of)["state"] == "stopped"
        resumed = _hanse("run", "resume", "first", *of)
        assert resumed["flower_run"] != submitted["flower_run"]
        assert "is_going" not in resumed
        _wait(lambda: _hanse("run", "status", "first", *of)[0]["state"] == "running")
        assert _hanse("run", "stop", "first", *of)["state"] == "stopped"
        submissions = [
            json.loads(line) for line in (folder / "runs/first/submissions.jsonl").read_text().splitlines()
        ]
        assert [entry["resume"] for entry in submissions] == [False, True]
    assert _left_over(tmp_path / "all") == []
    assert _hanse("run", "status", *of)[0]["state"] == "unknown"
    assert "hanse coordinator run" in _hanse("run", "stop", *of, fails=True)["message"]


def test_messages_reach_registered_nodes_alone_and_a_crash_is_survived(folder: Path, tmp_path: Path) -> None:
    directory = open_federation(folder)
    with ExitStack() as stack:
        told = stack.enter_context(_coordinator(folder, tmp_path / "coordinator.log"))
        settings = {
            site: _settings(tmp_path / "all" / site, tmp_path / f"{site}.zip") for site in ("clinic", "hospital")
        }
        nodes = {site: stack.enter_context(_node(settings[site])) for site in settings}
        _wait(lambda: set(_states(folder).values()) == {"connected"})

        # Strangers: a key that nobody registered, and a node that trusts another authority.
        create_node_key(tmp_path / "stranger" / "node.key")
        stranger = _settings(tmp_path / "stranger", tmp_path / "clinic.zip")
        assert "not registered" in _refusal(stranger)
        create_authority(tmp_path / "other" / "ca.key", tmp_path / "other" / "ca.crt", "other")
        deceived = SuperNodeSettings(
            **{**vars(settings["clinic"]), "authority": tmp_path / "other" / "ca.crt", "port": free_port()}
        )
        assert "CERTIFICATE_VERIFY_FAILED" in _refusal(deceived)

        # Control is for who holds the token, and no port but the one is served.
        assert _answer_of(directory, "/v1/control/list-runs") == 401
        assert _answer_of(directory, "/v1/control/list-runs", authorization="Bearer wrong") == 401
        token = directory.secret(directory.control_token)
        assert _answer_of(directory, "/v1/control/list-runs", authorization=f"Bearer {token}") == 200
        assert _answer_of(directory, "/v1/fleet/pull-messages") == 410

        # A run whose SuperLink is killed half-way goes on to its end.
        run = directory.runs / "tiny"
        private_folder(run)
        write_study(directory.read_study(), run / "study.toml")
        bundle = tiny_bundle(tmp_path / "tiny", rounds=4)
        with connect(directory) as control:
            control.submit(bundle, directory.read_study(), run, resume=False)
            _wait(lambda: run_views(directory, control)[0].progress.finished_round >= 1)
        superlink = next(event["pid"] for event in told() if event["process"] == "superlink")
        os.kill(superlink, signal.SIGKILL)
        _wait(lambda: (run / "result.json").exists(), seconds=120)
        rounds = [event for event in _lines(run / "events.jsonl") if event["event"] == "round-finished"]
        guards = [f"/run/hanse of {site}/guard.sock" for site in ("clinic", "hospital")]
        assert [(event["guards"], event["errors"]) for event in rounds] == [(guards, [])] * 4
        assert [(e["process"], e["event"]) for e in told()].count(("superlink", "ready")) == 2
        with connect(directory) as control:
            _wait(lambda: control.runs()[0].status == "completed")

        # A revoked site is out at once, and is told why whenever it tries again.
        _hanse("federation", "revoke", "hospital", "--federation", str(folder))
        assert _states(folder) == {"clinic": "connected", "hospital": "revoked"}
        _wait(lambda: [event for event in nodes["hospital"] if "was revoked" in event.detail], seconds=120)
        assert not [event for event in nodes["clinic"] if event.kind == "ended"]
    assert _left_over(tmp_path / "all") == []
