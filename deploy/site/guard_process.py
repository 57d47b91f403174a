"""The guard as a process of its own: the function that ``hanse site run`` keeps running."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from client.guard import Guard
from client.memory_reuse import keep_freed_memory
from deploy.federation.processes import ChildPlan
from deploy.site.home import SiteHome
from deploy.stop_signals import stop_on_signals
from deploy.structured_log import start_logging

__all__ = ["HOME_VARIABLE", "guard_is_serving", "guard_plan", "run"]

HOME_VARIABLE: Final = "HANSE_SITE"
"""Names the site's folder to this process."""

_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0
"""A round that is told to stop ends between two batches."""
_PROBE_SECONDS: Final = 2.0


def guard_plan(home: SiteHome) -> ChildPlan:
    """How the guard is started."""
    return ChildPlan(
        name="guard",
        module="deploy.site.guard_process",
        function="run",
        arguments=(),
        environment={**os.environ, HOME_VARIABLE: str(home.path)},
        log=home.logs / "guard.log",
        ready=lambda: guard_is_serving(home.socket()),
        ready_seconds=_READY_SECONDS,
        stop_seconds=_STOP_SECONDS,
    )


def guard_is_serving(socket: Path) -> bool:
    """Whether a guard answers at a socket."""
    import grpc  # type: ignore[import-untyped]  # ships no types
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types

    if not socket.exists():
        return False
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def run() -> None:
    """Serve the site that the environment names until SIGTERM.

    Raises:
        HanseError: folder, policy or data cannot be used, or another guard serves the folder.
    """
    logging.getLogger().handlers.clear()  # a library that was imported has set one
    start_logging("info", os.environ.get("HANSE_LOG_FORMAT", "text"))
    stop = stop_on_signals()
    keep_freed_memory()
    home = SiteHome(Path(os.environ[HOME_VARIABLE]))
    with Guard(home.guard_settings()):
        stop.wait()
