"""How much wall time the local engine adds to training: rounds / (pure training / workers).

The wall time of a round is from its start to the last update taken in; scoring the model on the validation
set is the coordinator's own work and stands beside it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from common.study import Study
from deploy.simulation import resources_for

__all__ = ["local_overhead"]


def local_overhead(study: Study) -> dict[str, Any]:
    """Run ``study`` once on the local engine and compare wall time with time spent training."""
    from flwr.app import Context, RecordDict

    from deploy.local_engine import SUPERLINK_NODE, LocalGrid
    from server.app import app as server_app

    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "seconds"
        directory = Path(name) / "run"
        directory.mkdir()
        os.environ["BENCHMARK_LOG"] = str(log)
        resources = resources_for(study)
        run_config = {"study": study.to_json(), "directory": str(directory), "resume": False}
        context = Context(
            run_id=1, node_id=SUPERLINK_NODE, node_config={}, state=RecordDict(), run_config=dict(run_config)
        )
        client_app = "tests.benchmarks.timed_client"
        with LocalGrid(study.data.sites, resources.workers, resources.threads, client_app) as grid:
            server_app(grid, context)
        training = sum(float(line) for line in log.read_text(encoding="utf-8").splitlines())
        result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    wall = result["seconds"]["train"]
    return {
        "workers": resources.workers,
        "threads": resources.threads,
        "training_seconds": round(training, 2),
        "rounds_wall_seconds": wall,
        "evaluation_wall_seconds": result["seconds"]["evaluate"],
        "ratio": round(wall / (training / resources.workers), 3),
    }
