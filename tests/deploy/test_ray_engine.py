"""Engine ray: a stub app on the real Flower and the real Ray; what must hold for any app."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import common.errors
import deploy
from common.errors import BadInput, NotYet, PolicyRefusal, RunFailed
from deploy.ray_engine import LOG_NAME, RayShare, run_on_ray

CHECKOUT = Path(deploy.__file__).resolve().parent.parent

PYPROJECT = """
[project]
name = "stub"
version = "0.1.0"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
"""

CLIENT = """
import os, time, ray
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    site, order = int(context.node_config["partition-id"]), message.content["order"]
    if order["crash"] == site:
        os._exit(3)
    if order["fail"] == site:
        raise ValueError(f"site {site} fails")
    time.sleep(float(order["sleep"]))
    answer = {
        "site": site,
        "sites": int(context.node_config["num-partitions"]),
        "pid": os.getpid(),
        "threads": os.environ["HANSE_THREADS"],
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "all"),
        "address": ray.util.get_node_ip_address(),
    }
    return Message(RecordDict({"answer": ConfigRecord(answer)}), reply_to=message)
"""

SERVER = """
import json, os, sys, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from common.errors import PolicyRefusal

app = ServerApp()

@app.main()
def main(grid, context):
    study, directory = json.loads(context.run_config["study"]), Path(context.run_config["directory"])
    while len(nodes := list(grid.get_node_ids())) < context.run_config["sites"]:
        time.sleep(0.05)
    rows = []
    for number, order in enumerate(study["rounds"]):
        order = ConfigRecord({"crash": -1, "fail": -1, "sleep": 0.0} | order)
        messages = [Message(RecordDict({"order": order}), node, "train") for node in nodes]
        waiting = set(grid.push_messages(messages))
        (directory / "pushed").touch()
        time.sleep(study.get("pause", 0))
        if "refuse" in study:
            raise PolicyRefusal(study["refuse"])
        if "exit" in study:
            sys.exit(study["exit"])
        while waiting:
            for reply in grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                failed = reply.has_error()
                row = {"reason": reply.error.reason} if failed else dict(reply.content["answer"])
                rows.append({"round": number} | row)
            time.sleep(0.05)
    facts = {"rows": rows, "config": dict(context.run_config), "folder": os.getcwd()}
    (directory / "facts.json").write_text(json.dumps(facts))
"""

CALLER = """
import sys
from pathlib import Path
from deploy.ray_engine import RayShare, run_on_ray
try:
    run_on_ray(sys.argv[1], Path(sys.argv[2]), RayShare(sites=2), bundle=Path(sys.argv[3]))
except KeyboardInterrupt:
    sys.exit(130)
"""

CLUSTER = """
import sys, ray
context = ray.init(num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[1])
print(context.address_info["address"], flush=True)
sys.stdin.readline()
print(ray.cluster_resources()["CPU"], flush=True)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Write a Flower app of three rooms that does as its "study" says."""
    root = tmp_path / "bundle"
    errors = Path(common.errors.__file__).read_text(encoding="utf-8")
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "common/errors.py": errors,
        "client/app.py": CLIENT,
        "server/app.py": SERVER,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for room in ("common", "client", "server"):
        (root / room / "__init__.py").touch()
    return root


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def facts_of(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((directory / "facts.json").read_text(encoding="utf-8"))
    return facts


def marked_processes(mark: str) -> list[int]:
    """List the processes with `mark` in their environment: all that a marked process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile, or is another user's
                continue
    return found


def wait_until(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.slow
def test_every_site_trains_and_nothing_is_left_behind(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy, home = tmp_path / "elsewhere", tmp_path / "home"
    for folder in (decoy / "client", home):
        folder.mkdir(parents=True)
    (decoy / "client" / "__init__.py").write_text("raise RuntimeError('the wrong client package')\n")
    monkeypatch.chdir(decoy)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(home))  # too long a path for the sockets of Ray
    watched: list[float] = []

    run_on_ray(
        '{"rounds": [{}, {}]}',
        tmp_path / "run",
        RayShare(sites=3, workers=2, threads=3),
        bundle=bundle,
        resume=True,
        watch=lambda: watched.append(time.monotonic()),
    )

    facts = facts_of(tmp_path / "run")
    rows = facts["rows"]
    assert sorted((row["round"], row["site"]) for row in rows) == [(r, s) for r in range(2) for s in range(3)]
    assert {row["sites"] for row in rows} == {3}
    assert {row["threads"] for row in rows} == {"3"}
    assert {row["gpus"] for row in rows} == {""}, "a client without a GPU share sees none"
    assert {row["address"] for row in rows} == {"127.0.0.1"}, "Ray listens on the loopback interface only"
    assert 1 <= len({row["pid"] for row in rows}) <= 2, "at most two clients at once"
    assert facts["config"] == {
        "study": '{"rounds": [{}, {}]}',
        "directory": str(tmp_path / "run"),
        "resume": True,
        "sites": 3,
    }
    work = Path(facts["folder"]).parent
    assert work.name.startswith("hanse-")
    assert not work.exists()
    assert len(watched) > 3
    assert list(home.iterdir()) == [], "the user's own Flower configuration is untouched"
    assert not (tmp_path / "run" / LOG_NAME).exists()


@pytest.mark.slow
def test_an_error_of_the_server_comes_back_while_clients_are_still_busy(bundle: Path, tmp_path: Path) -> None:
    study = {"rounds": [{"sleep": 300}], "refuse": "site.toml: rounds = 9: at most 3", "pause": 5}
    begin = time.monotonic()
    with pytest.raises(PolicyRefusal, match=r"site\.toml: rounds = 9: at most 3") as caught:
        run_on_ray(json.dumps(study), tmp_path / "run", RayShare(sites=2), bundle=bundle)
    assert caught.value.exit_code == 3
    assert time.monotonic() - begin < 120
    assert "Traceback" in (tmp_path / "run" / LOG_NAME).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_server_that_exits_did_not_succeed(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="SystemExit: 0; see"):
        run_on_ray('{"rounds": [{}], "exit": 0}', tmp_path / "run", RayShare(sites=2), bundle=bundle)


def test_an_app_that_cannot_be_imported_is_told(bundle: Path, tmp_path: Path) -> None:
    (bundle / "client" / "app.py").write_text("import a_module_that_is_not_there\n", encoding="utf-8")
    with pytest.raises(RunFailed, match="ModuleNotFoundError: No module named 'a_module_that_is_not_there'"):
        run_on_ray('{"rounds": []}', tmp_path / "run", RayShare(sites=2), bundle=bundle)


def test_a_child_that_is_killed_is_told(bundle: Path, tmp_path: Path) -> None:
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    (bundle / "server" / "app.py").write_text(kill, encoding="utf-8")
    with pytest.raises(RunFailed, match=r"ended before the study did \(exit code -9\)"):
        run_on_ray('{"rounds": []}', tmp_path / "run", RayShare(sites=2), bundle=bundle)


@pytest.mark.slow
def test_failing_and_dying_clients_are_replies_and_their_processes_come_back(bundle: Path, tmp_path: Path) -> None:
    rounds = [{"fail": 2}, {"crash": 1}, {"sleep": 3}, {}]
    run_on_ray(json.dumps({"rounds": rounds}), tmp_path / "run", RayShare(sites=3, workers=1), bundle=bundle)
    rows = facts_of(tmp_path / "run")["rows"]
    reasons = {row["round"]: row["reason"] for row in rows if "reason" in row}
    assert "site 2 fails" in reasons[0]
    assert "Actor" in reasons[1]
    last = [row for row in rows if row["round"] == 3]
    assert sorted(row["site"] for row in last) == [0, 1, 2]
    assert {row["pid"] for row in last}.isdisjoint(row.get("pid") for row in rows if row["round"] == 0)


@pytest.mark.slow
def test_a_gpu_share_that_no_machine_has_is_refused(bundle: Path, tmp_path: Path) -> None:
    share = RayShare(sites=2, gpus_per_site=1000)
    with pytest.raises(BadInput, match=r"simulation\.gpus_per_site = 1000: Ray has at most \d+ GPUs"):
        run_on_ray('{"rounds": []}', tmp_path / "run", share, bundle=bundle)


def test_ray_client_addresses_are_refused(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(NotYet, match="RAY_ADDRESS = ray://head:10001"):
        run_on_ray('{"rounds": []}', tmp_path / "run", RayShare(sites=2), bundle=bundle)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_survives_its_caller(bundle: Path, tmp_path: Path, number: int, code: int) -> None:
    mark, run = f"HANSE_TEST_MARK={uuid.uuid4().hex}", tmp_path / "run"
    name, _, value = mark.partition("=")
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, '{"rounds": [{"sleep": 300}]}', str(run), str(bundle)],
        env=os.environ | {name: value, "PYTHONPATH": str(CHECKOUT)},
    )
    try:
        assert wait_until(lambda: (run / "pushed").exists(), 90)
        assert wait_until(lambda: len(marked_processes(mark)) > 8, 30), "Ray and the clients are running"
        caller.send_signal(number)
        assert caller.wait(timeout=30) == code
        assert wait_until(lambda: not marked_processes(mark), 15), marked_processes(mark)
    finally:
        caller.kill()


@pytest.mark.slow
def test_a_running_cluster_gets_the_bundle_and_is_left_running(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tempfile.mkdtemp(prefix="hanse-test-", dir="/tmp")  # short enough for Ray's sockets
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert cluster.stdout is not None
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.stdout.readline().strip())
        run_on_ray('{"rounds": [{"sleep": 0.5}]}', tmp_path / "run", RayShare(sites=4, workers=2), bundle=bundle)
        rows = facts_of(tmp_path / "run")["rows"]
        assert sorted(row["site"] for row in rows) == [0, 1, 2, 3]
        assert len({row["pid"] for row in rows}) <= 2
        output, _ = cluster.communicate("\n", timeout=60)
        assert output.strip() == "4.0"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
