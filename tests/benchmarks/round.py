"""A round without work at many virtual sites: our engine and mean against Flower's engine and FedAvg.

``python -m tests.benchmarks.round [SITES ...]``. Both move a model of 1 MB to every site and back and average the
replies, with as many worker processes. Each takes three rounds in a process of its own; the first, which starts
workers, is not counted. Memory is the coordinator's own peak over what it held before the rounds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["round_times"]

ROOT = Path(__file__).resolve().parents[2]
_ROUNDS = 3
_FLOATS = 250_000


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _report(seconds: list[float], before: float) -> None:
    counted = seconds[1:]
    print(
        json.dumps(
            {"seconds_a_round": round(sum(counted) / len(counted), 3), "mib": round(_peak_mib() - before, 1)}
        )
    )


def ours(sites: int) -> None:
    """Rounds on the local engine with the streaming mean."""
    from flwr.app import Array, ArrayRecord, RecordDict

    from common.weights import Weights
    from deploy.local_engine import LocalGrid
    from server.aggregation import StreamingMean
    from server.messaging import replies

    start: Weights = {"weight": np.zeros(_FLOATS, np.float32)}
    with LocalGrid(sites, os.cpu_count() or 1, 1, "tests.benchmarks.noop_client") as grid:
        nodes = list(grid.get_node_ids())
        before, seconds = _peak_mib(), []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            mean = StreamingMean(start)
            content = RecordDict({"arrays": ArrayRecord({name: Array(value) for name, value in start.items()})})
            for reply in replies(grid, "train", content, nodes, 600.0):
                assert reply.content is not None
                record = reply.content["arrays"]
                mean.add({name: array.numpy() for name, array in record.items()}, 1 / sites)  # type: ignore[union-attr]
            mean.change()
            seconds.append(time.perf_counter() - started)
    _report(seconds, before)


def flowers(sites: int) -> None:
    """Rounds on Flower's simulation engine with its FedAvg."""
    from flwr.app import Array, ArrayRecord, Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    from tests.benchmarks.noop_client import app as client_app

    marks: list[float] = []
    held: list[float] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites
        )
        held.append(_peak_mib())
        arrays = ArrayRecord({"weight": Array(np.zeros(_FLOATS, np.float32))})
        marks.append(time.perf_counter())
        for _ in range(_ROUNDS):
            strategy.start(grid=grid, initial_arrays=arrays, num_rounds=1)
            marks.append(time.perf_counter())

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=sites,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    _report([later - sooner for sooner, later in pairwise(marks)], held[0])


def round_times(sites: list[int]) -> list[dict[str, Any]]:
    """Both engines at each number of sites, in turn."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    found = []
    for count in sites:
        row: dict[str, Any] = {"sites": count}
        for name in ("ours", "flowers"):
            command = [sys.executable, "-m", "tests.benchmarks.round", "--engine", name, str(count)]
            ended = subprocess.run(
                command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=True
            )
            row[name] = json.loads(ended.stdout.splitlines()[-1])
        row["flowers_over_ours"] = round(row["flowers"]["seconds_a_round"] / row["ours"]["seconds_a_round"], 1)
        found.append(row)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        {"ours": ours, "flowers": flowers}[sys.argv[2]](int(sys.argv[3]))
    else:
        print(json.dumps(round_times([int(each) for each in sys.argv[1:]] or [4, 40, 400, 1000]), indent=2))
