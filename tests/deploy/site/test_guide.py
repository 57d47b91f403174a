"""A new operator's path: the steps of docs/deploy.md, typed as they stand there, in a clean home."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.study_file import parse_study, write_study
from tests.deploy.federation.conftest import free_port
from tests.tiny import tiny_policy_text, tiny_study_text, write_tiny_base, write_tiny_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SITES = ("north", "south")
SECONDS = 400.0
BUDGET = 'epsilon = 40.0\nkind = "filter"\norder = 4\nepsilon_per_study = 12.0'


def _steps(who: str) -> list[str]:
    """The blocks with that mark, in the order of the guide."""
    blocks = re.findall(r"^```sh\n# step: ([^\n]+)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    found = [body for mark, body in blocks if mark == who]
    assert found, f"the guide has no step for: {who}"
    return found


class Operators:
    """Types what the guide says, with the values of a federation on this machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._sessions: list[int] = []

    def type(self, block: str, site: str = "north") -> str:
        values = {
            "FEDERATION": self.home / "federation",
            "NAME": "trial",
            "ADDRESS": f"127.0.0.1:{self.port}",
            "STUDY": self.home / "study.toml",
            "SITE": site,
            "INVITATION": self.home / f"{site}.zip",
            "PUBLIC_KEY": self.home / f"{site}.pub",
            "RUN": "trial-1",
            "SITE_HOME": self.home / site,
            "DATA": self.home / f"{site}.csv",
            "POLICY": self.home / f"{site}.toml",
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **{name: str(value) for name, value in values.items()}}
        environment |= {"HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT)}
        with tempfile.TemporaryFile("w+") as output:
            shell = subprocess.Popen(
                ["bash", "-eu", "-c", block], env=environment, cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._sessions.append(shell.pid)
            code = shell.wait(SECONDS)
            output.seek(0)
            said = output.read()
        assert code == 0, f"{block}\n{said}"
        return said

    def leave(self) -> None:
        """End what was started with ``&``."""
        for number, patience in ((signal.SIGTERM, 60.0), (signal.SIGKILL, 5.0)):
            for session in self._sessions:
                with_group(session, number)
            deadline = time.monotonic() + patience
            while any(with_group(session, 0) for session in self._sessions) and time.monotonic() < deadline:
                time.sleep(0.2)


def with_group(group: int, number: int) -> bool:
    """Signal a process group; whether there was one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def operators() -> Iterator[Operators]:
    home = Path(tempfile.mkdtemp(prefix="hanse-"))
    write_tiny_base(home / "base")
    text = tiny_study_text(home / "base", write_tiny_data(home / "public.csv", rows=200))
    text = text.replace('partition = "column"\ncolumn = "region"\nsites = 4', 'partition = "iid"\nsites = 2')
    text = text.replace("rounds = 2", "rounds = 1").replace("warm_start_steps = 2", "warm_start_steps = 0")
    write_study(parse_study(text, where="guide"), home / "study.toml")
    for number, site in enumerate(SITES):
        write_tiny_data(home / f"{site}.csv", rows=60, seed=30 + number)
        (home / f"{site}.toml").write_text(tiny_policy_text(site, 60, budget=BUDGET))
        (home / f"{site}.toml").chmod(0o600)
    found = Operators(home)
    try:
        yield found
    finally:
        found.leave()
        shutil.rmtree(home, ignore_errors=True)


def test_the_guide_followed_literally_ends_with_a_private_model(operators: Operators) -> None:
    init, run = _steps("coordinator")
    invite, register = _steps("coordinator (each site)")
    operators.type(init)
    for site in SITES:
        operators.type(invite, site)
        for step in _steps("site"):
            operators.type(step, site)
    operators.type(run)
    for site in SITES:
        operators.type(register, site)
    for site in SITES:
        for step in _steps("site (when the key is registered)"):
            operators.type(step, site)
    for step in _steps("coordinator (when the sites run)"):
        operators.type(step)
    result = operators.home / "federation" / "runs" / "trial-1" / "result.json"
    _until(result.exists)
    found = json.loads(result.read_text())
    assert found["private"]
    assert [site["name"] for site in found["sites"]] == list(SITES)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.5)
