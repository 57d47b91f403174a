"""The process in which engine ``ray`` runs a study: run as a script by ``deploy.ray_engine``.

``common`` is here the bundle's own, and ``deploy`` is not there: it imports nothing of it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from common.environment import PASSED_ON, THREADS_VARIABLE
from common.errors import BadInput, RunFailed

__all__ = ["QUIET_FLOWER", "RayShare"]

QUIET_FLOWER: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
"""Nothing reaches for the network; a client without a GPU share sees no GPU."""

_RESTARTS: Final = 16
"""How often Ray replaces one dead client process; Flower's default of 0 leaves a dead one in its pool."""


@dataclass(frozen=True)
class RayShare:
    """What a study may use of the machine or cluster.

    Attributes:
        sites: virtual institutions; site i has ``partition-id`` i.
        workers: sites that train at once; "auto": as many as processors and GPUs allow. On a running cluster
            it is met by reserving more processors for a site, as nearly as whole ones allow.
        cpus_per_site: processors that Ray reserves for one training site.
        gpus_per_site: share of a GPU for one training site; at 0 the clients see no GPU.
        threads: torch threads of one client process, told to it as ``HANSE_THREADS``.

    """

    sites: int
    workers: int | Literal["auto"] = "auto"
    cpus_per_site: int = 1
    gpus_per_site: float = 0.0
    threads: int = 1


def _child(work: Path) -> NoReturn:
    """Run the job in `work` and write ``outcome.json``: ``{}`` for success, else what was raised."""
    threading.Thread(target=_die_with_caller, args=[work], daemon=True).start()
    job: dict[str, Any] = json.loads((work / "job.json").read_text(encoding="utf-8"))
    try:
        _simulate(job, RayShare(**job["share"]), work)
    except BaseException as error:  # noqa: BLE001  the outermost frame of a process: all is told to the caller
        root = error
        while root.__cause__ is not None:  # Flower wraps it, and logs the whole chain
            root = root.__cause__
        _finish(work, root)
    _finish(work, RunFailed("Flower's simulation ended without the ServerApp"))


def _die_with_caller(work: Path) -> None:
    """Wait for the end of standard input, which the caller holds open, then end the whole process group."""
    sys.stdin.buffer.read()
    shutil.rmtree(work, ignore_errors=True)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _finish(work: Path, error: BaseException | None) -> NoReturn:
    """Tell the outcome and end the process at once, whatever other threads and clients are doing.

    Ray notices that its driver is gone and ends the clients; `ray.shutdown` could wait for them.
    """
    outcome = {}
    if error is not None:
        traceback.print_exception(error)
        outcome = {"kind": type(error).__name__, "message": str(error)}
    (work / "outcome.part").write_text(json.dumps(outcome), encoding="utf-8")
    (work / "outcome.part").replace(work / "outcome.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if error is None else 1)


def _simulate(job: dict[str, Any], share: RayShare, work: Path) -> None:
    """Start or join Ray and run both apps; ends the process by itself when the ServerApp ends."""
    from flwr.simulation import run_simulation

    server_app, client_app = _load_apps(Path(job["bundle"]))
    _start_ray(job["bundle"], share, work)
    resources: dict[str, Any] = {"num_cpus": _processors_per_site(share), "num_gpus": share.gpus_per_site}
    run_simulation(
        server_app=_ending_process(server_app, job["run_config"], work),
        client_app=client_app,
        num_supernodes=share.sites,
        backend_config={"init_args": {}, "client_resources": resources | {"max_restarts": _RESTARTS}},
    )


def _load_apps(bundle: Path) -> tuple[Any, Any]:
    """Import the ServerApp and the ClientApp that the bundle's pyproject.toml names."""
    project = tomllib.loads((bundle / "pyproject.toml").read_text(encoding="utf-8"))
    components = project["tool"]["flwr"]["app"]["components"]
    names = [components[kind].partition(":") for kind in ("serverapp", "clientapp")]
    server_app, client_app = (getattr(importlib.import_module(module), name) for module, _, name in names)
    return server_app, client_app


def _ending_process(server_app: Any, run_config: dict[str, str | bool | int], work: Path) -> Any:
    """Wrap the ServerApp: it gets its run configuration, and when it ends, well or badly, the process ends.

    Flower alone would wait for clients still training after the ServerApp died, and would wait for ever on
    the ServerApp after its own backend died.
    """
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

    ending = ServerApp()

    @ending.main()
    def main(grid: Grid, context: Context) -> None:
        context.run_config = dict(run_config)
        try:
            server_app(grid=grid, context=context)
        except BaseException as error:  # noqa: BLE001  even SystemExit: Flower would call that a success
            _finish(work, error)
        _finish(work, None)

    return ending


def _start_ray(bundle: str, share: RayShare, work: Path) -> None:
    """Join the cluster that RAY_ADDRESS names, or start Ray on this machine alone; both get the bundle."""
    import ray

    variables = QUIET_FLOWER | dict.fromkeys((THREADS_VARIABLE, "OMP_NUM_THREADS"), str(share.threads))
    variables |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        workers = share.workers
        if workers == "auto":
            workers = max(1, min(share.sites, (os.cpu_count() or 1) // share.cpus_per_site))
        own = {"num_cpus": workers * share.cpus_per_site, "_temp_dir": str(work / "ray")}
    environment = {"working_dir": bundle, "env_vars": variables}
    ray.init(include_dashboard=False, logging_level=logging.WARNING, runtime_env=environment, **own)


def _processors_per_site(share: RayShare) -> int:
    """Find how many processors one client must reserve for Ray to run at most `workers` at once."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for resource, needed in (("CPU", share.cpus_per_site), ("GPU", share.gpus_per_site)):
        most = max((node.get(resource, 0) for node in nodes), default=0)
        if most < needed:
            key = f"simulation.{resource.lower()}s_per_site"
            raise BadInput(f"{key} = {needed}: Ray has at most {most:g} {resource}s on one machine")
    wanted = share.sites if share.workers == "auto" else share.workers
    largest = int(max(node.get("CPU", 0) for node in nodes))
    for processors in range(share.cpus_per_site, largest):
        if sum(int(node.get("CPU", 0) // processors) for node in nodes) <= wanted:
            return processors
    return largest


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
