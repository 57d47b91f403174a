"""A real guard for tests: a site's folder with policy and data, and the guard that serves it, here or apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import tomli_w
from flwr.app import RecordDict

from client.guard import GuardSettings, socket_of
from client.guard_relay import ask_guard
from client.guard_stream import DESCRIBE_METHOD, TRAIN_METHOD
from client.site_directory import SiteDirectory
from common.privacy.ledger.entry import LedgerEntry
from common.study import Study
from common.wire import Update, pack_plan, raise_refusal, unpack_update
from tests.client.samples import plan_of, policy_of, weights_of
from tests.tiny import write_tiny_data

SECONDS = 60.0


def write_policy(directory: SiteDirectory, **changes: dict[str, Any]) -> None:
    """Write ``samples.policy_of`` with changes into the site's folder."""
    sections = policy_of(**changes).model_dump(mode="json", exclude_none=True)
    directory.policy.write_text(tomli_w.dumps(sections), encoding="utf-8")


@contextmanager
def site_folder(**changes: dict[str, Any]) -> Iterator[GuardSettings]:
    """A site's folder with policy and data, under a path short enough for a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="hanse-guard-"))
    try:
        directory = SiteDirectory(folder)
        write_policy(directory, **changes)
        yield GuardSettings(directory, write_tiny_data(folder / "rows.csv", rows=50, seed=12))
    finally:
        shutil.rmtree(folder)


def ask(settings: GuardSettings, method: str, content: RecordDict) -> RecordDict:
    """What the guard answers."""
    return ask_guard(socket_of(settings.directory), method, content, SECONDS)


def describe(settings: GuardSettings, study: Study) -> RecordDict:
    """What the guard says of its site."""
    return ask(settings, DESCRIBE_METHOD, pack_plan(plan_of(study), {}))


def train(settings: GuardSettings, study: Study, number: int = 1) -> Update:
    """A round's update; raises what the guard refuses with."""
    weights = weights_of(study, number)
    content = ask(settings, TRAIN_METHOD, pack_plan(plan_of(study, number), weights))
    raise_refusal(content)
    return unpack_update(content, weights)


def entries(settings: GuardSettings) -> list[LedgerEntry]:
    """The site's ledger, verified."""
    return list(settings.directory.existing_ledger().entries())


_SERVE = """
import os, signal, sys
from pathlib import Path
from client.guard import Guard, GuardSettings
from client.site_directory import SiteDirectory
import client.consent, client.guard_site
def die(*arguments, **named):
    Path(sys.argv[1], "reached").touch()
    os.kill(os.getpid(), signal.SIGKILL)
{before}
with Guard(GuardSettings(SiteDirectory(Path(sys.argv[1])), Path(sys.argv[2]))) as guard:
    guard.wait()
"""


@contextmanager
def guard_process(settings: GuardSettings, before: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A guard in a process of its own, ready to answer; ``before`` is run in it first."""
    command = [
        sys.executable,
        "-c",
        _SERVE.format(before=before),
        str(settings.directory.path),
        str(settings.data),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2]) as process:
        try:
            _await(settings, process)
            yield process
        finally:
            process.kill()


def _await(settings: GuardSettings, process: subprocess.Popen[bytes]) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with grpc.insecure_channel(f"unix:{socket_of(settings.directory)}") as channel:
            try:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                time.sleep(0.1)
            else:
                return
    raise AssertionError(f"no guard, exit code {process.poll()}")
