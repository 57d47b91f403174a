"""A whole federation on this machine: a coordinator and sites as separate processes, TLS, keys and data files.

Everything is done by the commands that operators type, and each is told as it is run: what happens here is what
``docs/deploy.md`` describes for machines apart.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from common.errors import RunFailed
from common.privacy.ledger.keys import private_folder
from deploy.federation.address import free_port
from deploy.federation.runs import read_progress

__all__ = ["LocalFederation", "LocalSite"]

_CONNECT_SECONDS: Final = 240.0
_STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
_STATUS_SECONDS: Final = 15.0
_ENDING_SECONDS: Final = 2.0


@dataclass(frozen=True)
class LocalSite:
    """One institution of a federation on this machine."""

    name: str
    data: Path
    policy: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that its processes see beside this process's own."""


class LocalFederation:
    """A federation in a folder; within the context its processes run."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """``folder`` is new; ``tell`` hears each command as it is run."""
        self.folder = folder.absolute()
        self.coordinator = self.folder / "coordinator"
        self._tell = tell
        self._sites: dict[str, LocalSite] = {}
        self._running = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def home(self, site: str) -> Path:
        """A site's folder."""
        return self.folder / "sites" / site

    def create(
        self, name: str, study: Path, sites: Sequence[LocalSite], address: str = "", listen: str = "127.0.0.1"
    ) -> None:
        """Make the coordinator, invite the sites, let each join, and register their keys.

        Args:
            name: the federation's.
            study: what the sites are invited to.
            sites: who takes part.
            address: where the sites look for the coordinator; by default a free port of loopback.
            listen: the address that it listens on.
        """
        private_folder(self.folder)
        private_folder(self.folder / "sites")
        of = ("--federation", str(self.coordinator))
        self.hanse("federation", "init", str(self.coordinator), "--name", name, "--address",
                   address or f"127.0.0.1:{free_port()}", "--listen", listen, "--study", str(study))  # fmt: skip
        for site in sites:
            invited = self.hanse("federation", "invite", site.name, *of)
            joined = self.hanse("site", "join", invited["path"], "--at", str(self.home(site.name)), "--data",
                                str(site.data), "--policy", str(site.policy), "--fingerprint",
                                invited["fingerprint"])  # fmt: skip
            self.hanse("federation", "register", site.name, joined["public_key"], "--fingerprint",
                       joined["fingerprint"], *of)  # fmt: skip
            self._sites[site.name] = site

    def approve(self, study: Path) -> None:
        """Every site's officer approves a study."""
        for name in self._sites:
            self.hanse("policy", "approve", str(study), "--site", str(self.home(name)))

    def __enter__(self) -> LocalFederation:
        """Start the coordinator and every site; they are connected when this returns.

        Raises:
            RunFailed: a process ended, or not all sites connected in time.
        """
        with ExitStack() as running:
            running.callback(self._stop_all)
            self.start_coordinator()
            for name in self._sites:
                self.start_site(name)
            self._await_connected()
            self._running = running.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop every process."""
        self._running.close()

    def start_coordinator(self) -> None:
        """Run the coordinator where it does not run."""
        self._start("coordinator", {}, "coordinator", "run", "--federation", str(self.coordinator))

    def start_site(self, name: str) -> None:
        """Run a site that does not run."""
        self._start(name, self._sites[name].environment, "site", "run", str(self.home(name)))

    def pid(self, name: str) -> int:
        """Process id of the coordinator's or a site's supervisor."""
        return self._processes[name].pid

    def _start(self, name: str, environment: Mapping[str, str], *arguments: str) -> None:
        """Run a command that goes on; what it prints goes to ``NAME.log`` in the folder."""
        self._tell(f"$ hanse {shlex.join(arguments)} &")
        if name in self._processes:
            self._processes[name].wait()
        with self._log(name) as log:
            self._processes[name] = subprocess.Popen(
                [*_HANSE, *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def stop(self, name: str) -> None:
        """Stop the coordinator or a site, and all of its processes."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def hanse(self, *arguments: str) -> Any:
        """Run a command to its end; what it prints as JSON.

        Raises:
            RunFailed: it failed; the message is its own.
        """
        self._tell(f"$ hanse {shlex.join(arguments)}")
        return self._answer(*arguments)

    def _answer(self, *arguments: str) -> Any:
        """As :meth:`hanse`, untold: for what is asked again and again."""
        done = subprocess.run(
            [*_HANSE, *arguments, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [done.stdout.strip()])[-1]
            raise RunFailed(f"hanse {shlex.join(arguments)}: exit code {done.returncode}: {said}")
        return json.loads(done.stdout)

    def finished_run(self, name: str, seconds: float, *study: str) -> dict[str, Any]:
        """Submit a run and wait for its end; how it ended, as ``hanse run status`` tells.

        Raises:
            RunFailed: it did not end in time.
        """
        of = ("--federation", str(self.coordinator))
        self.hanse("run", "submit", *of, "--name", name, *study)
        self._tell(f"$ hanse run status {name} {shlex.join(of)}    # until it is done")
        folder, told = self.coordinator / "runs" / name, 0
        deadline, asked = time.monotonic() + seconds, 0.0
        while True:
            # What the run wrote is read between the questions: a command a second would cost a core.
            progress = read_progress(folder)
            if progress.finished_round > told:
                told = progress.finished_round
                self._tell(f"  round {told} of {progress.rounds}")
            ended = progress.last_event in ("failed", "finished")
            if time.monotonic() > asked + (_ENDING_SECONDS if ended else _STATUS_SECONDS):
                view: dict[str, Any] = self._answer("run", "status", name, *of)[0]
                if view["state"] in ("completed", "failed", "stopped"):
                    return view
                asked = time.monotonic()
            if time.monotonic() > deadline:
                raise RunFailed(f"run {name}: did not end within {seconds:.0f} s; see {self.folder}")
            time.sleep(_POLL_SECONDS)

    def states(self) -> dict[str, str]:
        """Each site's state as the coordinator sees it."""
        found = self._answer("federation", "status", "--federation", str(self.coordinator))
        return {site["site"]: site["state"] for site in found["sites"]}

    def await_connected(self, name: str, seconds: float = _CONNECT_SECONDS) -> None:
        """Wait until a site is connected; raises ``RunFailed`` where it is not in time."""
        deadline = time.monotonic() + seconds
        while self.states()[name] != "connected":
            process = self._processes.get(name)
            if process is not None and process.poll() is not None:
                raise RunFailed(f"{name}: ended; see {self.folder / name}.log")
            if time.monotonic() > deadline:
                raise RunFailed(f"{name}: did not connect within {seconds:.0f} s; see {self.folder / name}.log")
            time.sleep(_POLL_SECONDS)

    def _await_connected(self) -> None:
        for name in self._sites:
            self.await_connected(name)
        self._tell(f"  {', '.join(self._sites)}: connected")

    def _stop_all(self) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)

    def _log(self, name: str) -> TextIO:
        path = self.folder / f"{name}.log"
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")


_HANSE: Final = (sys.executable, "-m", "deploy.cli")
