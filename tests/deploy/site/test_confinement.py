"""A confined node finds no data to read, whoever owns the files (Linux with Landlock)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import BadInput, RunFailed
from common.privacy.ledger.keys import private_folder
from deploy.federation.processes import ChildPlan
from deploy.site import confinement
from deploy.site.confinement import can_confine, confined_plans
from deploy.site.home import NodeHome

pytestmark = pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")

_TRY = """
import json, os, sys
def tried(action):
    try:
        action()
        return "done"
    except OSError as error:
        return type(error).__name__
data, node, pid = sys.argv[1:]
other_root = "/" + "root"
found = {
    "read data": tried(lambda: open(data).read()),
    "list its folder": tried(lambda: os.listdir(os.path.dirname(data))),
    "write data": tried(lambda: open(data, "a")),
    "by /proc": tried(lambda: open("/proc/" + pid + other_root + data).read()),
    "by its own /proc": tried(lambda: open("/proc/self" + other_root + data).read()),
    "environment of another": tried(lambda: open(f"/proc/{pid}/environ").read()),
    "link": tried(lambda: (os.symlink(data, node + "/link"), open(node + "/link").read())),
    "signal": tried(lambda: os.kill(int(pid), 0)),
    "write its own": tried(lambda: open(node + "/own", "w").write("x")),
    "import hanse": tried(lambda: __import__("client.app")),
}
print(json.dumps(found))
"""


def _node(tmp_path: Path) -> NodeHome:
    node = NodeHome(tmp_path / "node")
    for folder in (node.path, node.temporary, node.logs):
        private_folder(folder)
    return node


def _plan(node: NodeHome) -> ChildPlan:
    return ChildPlan("node", "a", "b", [], dict(os.environ), node.logs / "node.log")


def test_a_confined_process_opens_its_own_folder_and_nothing_of_the_sites(tmp_path: Path) -> None:
    data = tmp_path / "site" / "rows.csv"
    data.parent.mkdir()
    data.write_text("secret")
    data.chmod(0o644)  # its own permissions would let everybody in
    node = _node(tmp_path)
    plan = confined_plans([_plan(node)], node, [data])[0]
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        done = subprocess.run(
            [*plan.prefix, sys.executable, "-c", _TRY, str(data), str(node.path), str(other.pid)],
            env=dict(plan.environment), cwd=node.path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        other.kill()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    allowed = {name for name, how in found.items() if how == "done"}
    if confinement.confined.landlock_version() < 6:
        allowed -= {"signal"}
    assert allowed == {"write its own", "import hanse"}, found


def test_without_confinement_the_same_process_reads_it(tmp_path: Path) -> None:
    """The test above can fail: nothing but the confinement shuts the data away."""
    data = tmp_path / "rows.csv"
    data.write_text("secret")
    node = _node(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(data), str(node.path), str(os.getpid())],
        cwd=node.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["read data"] == "done"


def test_data_where_the_node_must_read_is_refused(tmp_path: Path) -> None:
    node = _node(tmp_path)
    with pytest.raises(BadInput, match="which the node must read"):
        confined_plans([_plan(node)], node, [Path(sys.prefix) / "rows.csv"])
    with pytest.raises(BadInput, match="lies in the node's folder"):
        confined_plans([_plan(node)], node, [node.path / "rows.csv"])


def test_a_system_that_cannot_confine_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "can_confine", lambda: False)
    node = _node(tmp_path)
    with pytest.raises(RunFailed, match="cannot confine"):
        confined_plans([_plan(node)], node, [])
