"""A whole federation on one machine: the real ServerApp and ClientApp over one of two engines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import common.errors
from common.errors import BadInput, HanseError, RunFailed
from common.study import Study

__all__ = ["SimulationResources", "resources_for", "simulate"]

FLOWER_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Without these Flower and Ray reach for the network."""


@dataclass(frozen=True)
class SimulationResources:
    """How a simulation is spread over this machine."""

    workers: int
    """Sites that train at the same time."""
    threads: int
    """torch threads of each."""


def resources_for(study: Study) -> SimulationResources:
    """Workers and threads for a study: one worker a core at most, sharing the cores among them.

    Raises:
        BadInput: GPUs are asked for that are not there.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = study.simulation.workers
    workers = min(study.data.sites, cores if wanted == "auto" else wanted)
    if study.simulation.gpus_per_site:
        import torch

        gpus = torch.cuda.device_count()
        fitting = int(gpus / study.simulation.gpus_per_site)
        if fitting < 1:
            raise BadInput(
                f"simulation.gpus_per_site = {study.simulation.gpus_per_site}: this machine has {gpus} GPUs"
            )
        workers = min(study.data.sites, fitting if wanted == "auto" else min(wanted, fitting))
    return SimulationResources(workers, max(1, cores // workers))


def simulate(study: Study, directory: Path, resume: bool = False) -> None:
    """Run the study into ``directory``; its files are complete when this returns.

    Raises:
        HanseError: what the server or a site raised.
    """
    os.environ.update(FLOWER_ENVIRONMENT)
    if study.simulation.engine == "ray":
        _simulate_on_ray(study, directory, resume)
    else:
        _simulate_locally(study, directory, resume)


def _simulate_locally(study: Study, directory: Path, resume: bool) -> None:
    from flwr.app import Context, RecordDict

    from deploy.local_engine import SUPERLINK_NODE, LocalGrid
    from server.app import app as server_app

    resources = resources_for(study)
    context = Context(
        run_id=1,
        node_id=SUPERLINK_NODE,
        node_config={},
        state=RecordDict(),
        run_config={"study": study.to_json(), "directory": str(directory), "resume": resume},
    )
    with LocalGrid(study.data.sites, resources.workers, resources.threads) as grid:
        server_app(grid, context)


def _simulate_on_ray(study: Study, directory: Path, resume: bool) -> None:
    raise NotImplementedError


def raise_recorded_error(directory: Path) -> None:
    """Raise the error that the server wrote into the run directory, if there is one."""
    file = directory / "error.json"
    if not file.exists():
        return
    recorded = json.loads(file.read_text(encoding="utf-8"))
    kind = getattr(common.errors, recorded["error"], RunFailed)
    if not (isinstance(kind, type) and issubclass(kind, HanseError)):
        kind = RunFailed
    raise kind(recorded["message"])
