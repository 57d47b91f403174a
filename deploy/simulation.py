"""A whole federation on one machine: the real ServerApp and ClientApp over one of two engines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.environment import SITES_VARIABLE
from common.errors import BadInput
from common.files import write_json
from common.privacy.spending import Claim
from common.study import Study
from deploy.ray_child import QUIET_FLOWER, RayShare

__all__ = ["SimulationResources", "keep_sites_folder", "resources_for", "simulate"]

_SITES_FILE = "sites.json"


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


def keep_sites_folder(directory: Path, sites: Path | None) -> None:
    """Note in a new run's directory where its virtual sites' folders lie, if not in the usual place.

    Raises:
        BadInput: ``sites`` is no folder.
    """
    if sites is None:
        return
    if not sites.is_dir():
        raise BadInput(f"--sites {sites}: no such folder; make one folder a site there, each with a policy.toml")
    write_json(directory / _SITES_FILE, {"folder": str(sites.resolve())})


def simulate(study: Study, directory: Path, resume: bool = False) -> dict[str, Claim]:
    """Run the study into ``directory``; its files are complete when this returns.

    Returns:
        Each site's claim over every run in its ledger; none where no ledger was kept.

    Raises:
        HanseError: what the server or a site raised.
    """
    from deploy.site_ledgers import export_ledgers

    os.environ.update(QUIET_FLOWER)
    with _sites_folder(directory):
        if study.simulation.engine == "ray":
            _simulate_on_ray(study, directory, resume)
        else:
            _simulate_locally(study, directory, resume)
        return export_ledgers(study, directory)


@contextmanager
def _sites_folder(directory: Path) -> Iterator[None]:
    """Within the context, the virtual sites' folders are those that the run began with."""
    before = os.environ.get(SITES_VARIABLE)
    if (directory / _SITES_FILE).is_file():
        os.environ[SITES_VARIABLE] = json.loads((directory / _SITES_FILE).read_text(encoding="utf-8"))["folder"]
    try:
        yield
    finally:
        os.environ.pop(SITES_VARIABLE, None)
        if before is not None:
            os.environ[SITES_VARIABLE] = before


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
    from deploy.ray_engine import run_on_ray

    resources = resources_for(study)
    share = RayShare(
        study.data.sites,
        resources.workers,
        gpus_per_site=study.simulation.gpus_per_site,
        threads=resources.threads,
    )
    run_on_ray(study.to_json(), directory, share, resume=resume)
