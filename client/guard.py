"""The guard: the institution's own long-lived process, which alone holds data, policy, ledger and key.

It serves the site over gRPC on a Unix socket in the site's folder, for the relay that Flower runs beside it. What
a coordinator sends there is data to check, never code. ``common/guard.proto`` documents the service.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types

from client.guard_metrics import GuardMetrics
from client.guard_service import GuardService
from client.guard_site import RealSite
from client.guard_stream import LARGEST_MESSAGE, SERVICE
from client.guard_turn import Turns
from client.policy_file import read_policy
from client.site_directory import SiteDirectory
from client.witnesses import Witnesses
from common.errors import BadInput, RunFailed
from common.file_lock import locked
from common.privacy.ledger.keys import check_private

__all__ = ["Guard", "GuardSettings", "socket_of"]

_log = logging.getLogger("hanse.guard")

_LONGEST_SOCKET = 100
"""Bytes of a Unix socket's path that every system takes (Linux 107, macOS 103)."""
_THREADS = 8
_GRACE = 5.0
"""Seconds that a round which was told to stop may take to do so."""


def socket_of(directory: SiteDirectory) -> Path:
    """Where a site's guard listens."""
    return directory.path.absolute() / "guard.sock"


@dataclass(frozen=True)
class GuardSettings:
    """What a guard needs."""

    directory: SiteDirectory
    """The site's folder, with its ``policy.toml``."""
    data: Path
    """A CSV, JSON Lines or Parquet file, or a folder with a ``train`` file of such a kind."""
    largest_message: int = LARGEST_MESSAGE
    """Most bytes of one message."""
    coordinators: Mapping[str, str] = field(default_factory=dict)
    """Federation's name by its coordinator's witness key. Empty: whoever reaches the socket is served, without a
    witness (P8); for one machine alone."""
    socket: Path | None = None
    """Where to listen, if not in the site's folder: where a relay under another user can reach it."""
    socket_group: str | None = None
    """The group that may use the socket besides its owner; the relay's user is in it."""


class Guard:
    """A running guard; leave the context to stop it.

    Raises on entering:
        BadInput: folder, policy, data or the socket's path cannot be used.
        RunFailed: another guard serves the folder.
    """

    def __init__(self, settings: GuardSettings) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self.socket = (settings.socket or socket_of(settings.directory)).absolute()
        self._turns = Turns()
        self._metrics = GuardMetrics(settings.directory)
        self._server: Any = None
        self._running = ExitStack()

    def __enter__(self) -> Guard:
        """Listen; when this returns, the guard answers."""
        self._check()
        folder = self._settings.directory.path
        with ExitStack() as running:
            try:
                running.enter_context(locked(folder / "guard.lock", patience=0.0))
            except OSError as error:
                raise RunFailed(f"{folder}: another guard serves this folder; stop it first") from error
            running.enter_context(self._metrics.serving())
            self._start()
            self._running = running.pop_all()
        _log.info("listening on %s", self.socket)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop: a round that is running is stopped too, and counts in full."""
        self._turns.stop()
        self._server.stop(_GRACE).wait()
        self.socket.unlink(missing_ok=True)
        self._running.close()

    def wait(self) -> None:
        """Serve until the process is told to end."""
        self._server.wait_for_termination()

    def _check(self) -> None:
        """What can be told before the first study comes."""
        directory, data = self._settings.directory, self._settings.data
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET:
            raise BadInput(
                f"{self.socket}: a socket's path may have {_LONGEST_SOCKET} bytes; use a shorter folder"
            )
        check_private(directory.path)
        read_policy(directory.policy)
        if not data.exists():
            raise BadInput(f"{data}: no such file or folder; name the site's data")

    def _start(self) -> None:
        server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="guard"),
            options=[("grpc.so_reuseport", 0)],
        )
        directory = self._settings.directory
        witnesses = Witnesses(self._settings.coordinators, directory.receipts)
        site = RealSite(directory, self._settings.data, self._turns.check, witnesses)
        service = GuardService(site, self._turns, self._settings.largest_message, self._metrics)
        server.add_generic_rpc_handlers((service.handlers(),))
        state = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(state, server)
        self.socket.unlink(missing_ok=True)  # a guard that was killed left it; none runs, we hold the lock
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{self.socket}")
        except RuntimeError as error:
            raise RunFailed(f"{self.socket}: cannot listen there") from error
        finally:
            os.umask(mask)
        self._share_socket()
        for name in ("", SERVICE):
            state.set(name, health_pb2.HealthCheckResponse.SERVING)
        server.start()
        self._server = server

    def _share_socket(self) -> None:
        """For its owner alone, or with one group: the process's mask kept everybody out so far."""
        group = self._settings.socket_group
        if group is None:
            self.socket.chmod(0o600)
            return
        try:
            shutil.chown(self.socket, group=group)
        except (LookupError, PermissionError) as error:
            raise BadInput(f"socket_group = {group!r}: no group that this user may give a socket to") from error
        self.socket.chmod(0o660)
