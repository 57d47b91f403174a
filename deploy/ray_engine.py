"""Engine ``ray``: a study's apps on Flower's simulation engine, on one machine or a Ray cluster.

``run_on_ray`` starts one child process in a neutral, empty folder; the child runs the bundle's ServerApp and
ClientApp by ``flwr.simulation.run_simulation``. Not ``flwr run``: its SuperLink outlives it on a fixed port
or is an older one from another folder, its exit code does not tell how the run ended, and it sends no code to
a cluster's other machines.

No process is left behind: an interrupted caller kills the child's process group, to which Ray's processes
belong; when the caller itself is killed, the child sees its standard input end and does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import common.errors
from common.errors import HanseError, NotYet, RunFailed
from deploy import ray_child
from deploy.bundle import build_bundle
from deploy.ray_child import QUIET_FLOWER, RayShare

__all__ = ["RayShare", "run_on_ray"]

LOG_NAME: Final = "engine.log"
"""In the run directory: all that Flower, Ray and the apps printed; kept only when the run failed."""

_LOOPBACK_ONLY: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""A Ray of our own listens on 127.0.0.1 alone on every system: whoever reaches its ports can run code."""

_LONGEST_TEMPORARY_FOLDER: Final = 19
"""Hanse and Ray add up to 84 characters for a Unix socket; the system allows 103 (macOS) or 107."""


def run_on_ray(
    study_json: str,
    directory: Path,
    share: RayShare,
    *,
    bundle: Path | None = None,
    resume: bool = False,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run the bundle's apps on Ray until the ServerApp has returned.

    The ServerApp reads ``context.run_config``: "study" is `study_json`, "directory" the absolute run
    directory, "resume", and "sites". Without `bundle` the installed rooms are bundled. `watch` is called five
    times a second meanwhile. ``RAY_ADDRESS`` (host:port), where set, names a running cluster to use.

    Raises:
        HanseError: what the ServerApp raised, with its type and message; RunFailed for anything else.
        KeyboardInterrupt: passed on after every process has been ended.

    """
    if os.environ.get("RAY_ADDRESS", "").startswith("ray://"):
        raise NotYet(
            f"RAY_ADDRESS = {os.environ['RAY_ADDRESS']}: Ray Client cannot be used; start Hanse on a machine "
            "of the cluster and give host:port, or unset it"
        )
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    place = _temporary_folder()
    with tempfile.TemporaryDirectory(prefix="hanse-", dir=place, ignore_cleanup_errors=True) as name:
        work = Path(name).resolve()
        app = build_bundle(work / "bundle") if bundle is None else bundle.resolve()
        config = {"study": study_json, "directory": str(directory), "resume": resume, "sites": share.sites}
        job = {"bundle": str(app), "run_config": config, "share": asdict(share)}
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run_child(work, app, directory / LOG_NAME, watch)


def _temporary_folder() -> Path:
    """Choose where temporary files go: the usual place, or ``/tmp`` if sockets had too long a name there."""
    usual, short = Path(tempfile.gettempdir()).resolve(), Path("/tmp")
    return short if len(str(usual)) > _LONGEST_TEMPORARY_FOLDER and short.is_dir() else usual


def _run_child(work: Path, bundle: Path, log: Path, watch: Callable[[], None] | None) -> None:
    """Start the child, wait for it, and turn its outcome into a return or an error."""
    (work / "empty").mkdir()
    environment = os.environ | QUIET_FLOWER | {"FLWR_HOME": str(work / "flower")}
    if not environment.get("RAY_ADDRESS"):
        environment |= _LOOPBACK_ONLY
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(bundle), os.environ.get("PYTHONPATH")]))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", ray_child.__file__, str(work)],
            cwd=work / "empty",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if watch is not None:
                    watch()
                time.sleep(0.2)
        finally:
            _end_group(process)
    _judge(work / "outcome.json", process.returncode, log)
    log.unlink()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child and of all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left (macOS: the second)
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _judge(outcome_file: Path, exit_code: int, log: Path) -> None:
    """Return if the study is finished; else raise what ended it."""
    if not outcome_file.exists():
        raise RunFailed(f"engine ray ended before the study did (exit code {exit_code}); see {log}")
    outcome: dict[str, str] = json.loads(outcome_file.read_text(encoding="utf-8"))
    if not outcome:
        return
    kind = getattr(common.errors, outcome["kind"], None)
    if isinstance(kind, type) and issubclass(kind, HanseError):
        raise kind(outcome["message"])
    raise RunFailed(f"engine ray: {outcome['kind']}: {outcome['message'].strip()}; see {log}")
