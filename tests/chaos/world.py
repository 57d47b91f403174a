"""Three sites and a coordinator as real processes, and hands that do them harm."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

from common.study import Study
from common.study_file import parse_study, write_study
from deploy.federation.address import free_port
from deploy.federation.control import connect
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.runs import RunView, resume_run, run_views, submit_run
from deploy.local_federation import LocalFederation, LocalSite
from tests.chaos.faults import Fault, Kind
from tests.chaos.network import Proxy
from tests.tiny import tiny_policy_text, tiny_rows, tiny_study_text, write_tiny_base, write_tiny_data

__all__ = ["ROUNDS", "ROUND_SECONDS", "SITES", "World"]

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 10
ROUND_SECONDS = 20.0
"""The deadline of a round."""

_NEAR, _FAR = "127.0.0.2", "127.0.0.1"
"""Where the sites look for the coordinator, and where it listens."""
_JUMP_SECONDS = 3600
_CLOCK_MODULE = Path(__file__).with_name("clock")


class World:
    """A federation in a folder; within the context it runs."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is new, with a short path, for the sockets."""
        self.folder = folder
        write_tiny_base(folder / "base")
        write_tiny_data(folder / "public.csv", rows=120)
        self._told = (folder / "commands.log").open("a", encoding="utf-8")
        self.local = LocalFederation(folder / "federation", self._tell)
        self._clock = folder / "clock"
        self._set_clock("0")
        port = free_port()
        self.proxy = Proxy((_NEAR, port), (_FAR, port))
        write_study(self.study("first"), folder / "first.toml")
        self.local.create(
            "chaos",
            folder / "first.toml",
            [self._site(name, number) for number, name in enumerate(SITES)],
            address=f"{_NEAR}:{port}",
            listen=_FAR,
        )
        self.coordinator = CoordinatorDirectory(self.local.coordinator)

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        """Start everything, and stop it at the end."""
        with self.proxy, self.local:
            yield self

    def study(self, name: str, rounds: int = ROUNDS) -> Study:
        """A private study of short rounds; one reply is enough for a round."""
        return parse_study(
            tiny_study_text(self.folder / "base", self.folder / "public.csv"),
            where=name,
            overrides=(
                f"study.name={name}",
                "data.partition=iid",
                f"data.sites={len(SITES)}",
                f"federation.rounds={rounds}",
                f"federation.round_timeout={ROUND_SECONDS:.0f}s",
                "federation.min_sites=1",
            ),
        )

    def submit(self, name: str, rounds: int = ROUNDS) -> None:
        """Start a run of :meth:`study`; raises ``RunFailed`` where the coordinator does not answer."""
        with connect(self.coordinator) as control:
            submit_run(self.coordinator, control, self.study(name, rounds), name)

    def view(self, name: str) -> RunView:
        """The run as the coordinator sees it; raises ``RunFailed`` where that does not answer."""
        with connect(self.coordinator) as control:
            return next(view for view in run_views(self.coordinator, control) if view.name == name)

    def resume(self, name: str) -> None:
        """Go on with a run; raises ``RunFailed``."""
        with connect(self.coordinator) as control:
            resume_run(self.coordinator, control, name)

    def run_directory(self, name: str) -> Path:
        """Where a run writes."""
        return self.coordinator.runs / name

    def inject(self, fault: Fault) -> Callable[[], None]:
        """Do the harm; what is returned undoes it."""
        if fault.kind in (Kind.KILL_SITE, Kind.KILL_COORDINATOR):
            _signal(self._tree(fault.target), signal.SIGKILL)
            return lambda: self._start(fault.target)
        if fault.kind is Kind.KILL_GUARD:
            _signal(self._named(fault.target, "deploy.site.guard_process"), signal.SIGKILL)
        elif fault.kind is Kind.KILL_NODE:
            _signal(self._named(fault.target, "flwr.supernode.cli"), signal.SIGKILL)
        elif fault.kind in (Kind.PAUSE_SITE, Kind.PAUSE_COORDINATOR):
            stopped = self._tree(fault.target)
            _signal(stopped, signal.SIGSTOP)
            return lambda: _signal(stopped, signal.SIGCONT)
        elif fault.kind is Kind.FULL_SITE:
            return _full(lambda: self._named(fault.target, "deploy.site.guard_process"))
        elif fault.kind is Kind.FULL_COORDINATOR:
            return _full(lambda: self._tree("coordinator")[1:])  # not the supervisor, which writes logs alone
        elif fault.kind is Kind.CLOCK_JUMP:
            self._set_clock(str(_JUMP_SECONDS if fault.delay < 1 else -_JUMP_SECONDS))
            return lambda: self._set_clock("0")
        else:
            self._disturb(fault.kind, True)
            return lambda: self._disturb(fault.kind, False)
        return lambda: None

    def _disturb(self, kind: Kind, on: bool) -> None:
        if kind is Kind.CUT_NETWORK:
            self.proxy.cut = on
            self.proxy.drop()
        else:
            self.proxy.slow = on

    def _set_clock(self, text: str) -> None:
        self._clock.write_text(text)

    def _site(self, name: str, number: int) -> LocalSite:
        data, policy = self.folder / f"{name}.csv", self.folder / f"{name}.toml"
        rows = [f"{text},{label}\n" for text, label, _ in tiny_rows(110, seed=number + 1)]
        data.write_text("text,label\n" + "".join(rows))
        budget = 'epsilon = 4000.0\nkind = "filter"\norder = 4'
        allow = 'approval = "none"\nmin_sites = 1'
        policy.write_text(tiny_policy_text(name, 100, budget=budget, allow=allow))
        policy.chmod(0o600)
        return LocalSite(name, data, policy, self._clock_variables() if name == SITES[-1] else {})

    def _start(self, target: str) -> None:
        if target == "coordinator":
            self.local.start_coordinator()
        else:
            self.local.start_site(target)

    def _clock_variables(self) -> dict[str, str]:
        """With these the supervisor and the guard read how wrong their clocks are from a file."""
        path = os.pathsep.join(filter(None, [str(_CLOCK_MODULE), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "HANSE_TEST_CLOCK": str(self._clock)}

    def _tree(self, target: str) -> list[psutil.Process]:
        """A party's supervisor, and everything below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.local.pid(target))
            return [top, *top.children(recursive=True)]
        return []

    def _named(self, target: str, words: str) -> list[psutil.Process]:
        found = []
        for process in self._tree(target):
            with contextlib.suppress(psutil.NoSuchProcess):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _tell(self, line: str) -> None:
        self._told.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._told.flush()


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _full(processes: Callable[[], list[psutil.Process]]) -> Callable[[], None]:
    """Let no file of ``processes`` grow: writes fail as they do on a full disk."""

    def limit(most: int) -> None:
        for process in processes():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    limit(0)
    return lambda: limit(resource.RLIM_INFINITY)
