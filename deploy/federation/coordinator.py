"""Runs the coordinator: the guarded SuperLink and the SuperExec that starts each run's ServerApp."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import BadInput
from common.file_lock import locked
from deploy.federation.admission import admit
from deploy.federation.control import connect, is_answering
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.flower_environment import flower_environment
from deploy.federation.processes import ChildPlan, ProcessEvent, Supervisor
from deploy.federation.superlink_process import FOLDER_VARIABLE

__all__ = ["coordinator_plans", "run_coordinator"]


def run_coordinator(
    directory: CoordinatorDirectory, stop: threading.Event, tell: Callable[[ProcessEvent], None]
) -> None:
    """Serve the federation until ``stop`` is set; every process has ended when this returns.

    Raises:
        BadInput: another coordinator serves this folder, or something else holds its port.
        HanseError: the sites could not be admitted.
    """
    directory.renew_certificate()
    with _only_one(directory.lock):
        if is_answering(directory) or _is_taken(directory):
            raise BadInput(
                f"{directory.federation().local_address}: another program listens there; stop it, or change the "
                f"port in {directory.settings} and invite the sites again"
            )
        Supervisor(coordinator_plans(directory), tell).run(stop)


def coordinator_plans(directory: CoordinatorDirectory) -> list[ChildPlan]:
    """The coordinator's two processes, in the order in which they start."""
    environment = flower_environment(directory.flower_home, **{FOLDER_VARIABLE: str(directory.path)})
    address = str(directory.federation().local_address)
    return [
        ChildPlan(
            name="superlink",
            module="deploy.federation.superlink_process",
            function="run",
            arguments=(),
            environment=environment,
            log=directory.logs / "superlink.log",
            ready=lambda: is_answering(directory),
            when_ready=lambda: _admit_sites(directory),
        ),
        ChildPlan(
            name="superexec",
            module="flwr.supercore.cli.flower_superexec",
            function="flower_superexec",
            arguments=(
                *("--runtime-api-address", address, "--root-certificates", str(directory.authority[1])),
                *("--superexec-auth-secret-file", str(directory.superexec_secret)),
            ),
            environment=environment,
            log=directory.logs / "superexec.log",
        ),
    ]


def _admit_sites(directory: CoordinatorDirectory) -> None:
    with connect(directory) as control:
        admit(directory, control)


def _is_taken(directory: CoordinatorDirectory) -> bool:
    import socket

    address = directory.federation().local_address
    with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the folder's lock: two coordinators on one database would lose messages."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, patience=0.0))
        except BlockingIOError:
            raise BadInput(f"{path.parent}: a coordinator runs for this folder already") from None
        yield
