"""A round at many virtual sites: our engine and mean against Flower's simulation engine and FedAvg.

``python -m tests.benchmarks.round [--training] [SITES ...]``. Without work, both move a model of 1 MB to every
site and back and average the replies; with ``--training`` every site trains a tiny BERT for two steps. Both have
as many worker processes. Each takes three rounds in a process of its own; the first, which starts workers, is not
counted. Memory is the coordinator's own peak over what it held before the rounds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from common.weights import Weights

__all__ = ["round_times"]

ROOT = Path(__file__).resolve().parents[2]
_ROUNDS = 3
_FLOATS = 250_000
_CLIENTS = {"none": "tests.benchmarks.noop_client", "training": "tests.benchmarks.training_client"}


def _start(work: str) -> Weights:
    if work == "none":
        return {"weight": np.zeros(_FLOATS, np.float32)}
    found: Weights = import_module(_CLIENTS[work]).start_weights()
    return found


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _report(seconds: list[float], before: float) -> None:
    counted = seconds[1:]
    print(
        json.dumps(
            {"seconds_a_round": round(sum(counted) / len(counted), 3), "mib": round(_peak_mib() - before, 1)}
        )
    )


def ours(work: str, sites: int) -> None:
    """Rounds on the local engine with the streaming mean."""
    from flwr.app import Array, ArrayRecord, RecordDict

    from deploy.local_engine import LocalGrid
    from server.aggregation import StreamingMean
    from server.messaging import replies

    start = _start(work)
    with LocalGrid(sites, os.cpu_count() or 1, 1, _CLIENTS[work]) as grid:
        nodes = list(grid.get_node_ids())
        before, seconds = _peak_mib(), []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            mean = StreamingMean(start)
            content = RecordDict({"arrays": ArrayRecord({name: Array(value) for name, value in start.items()})})
            answered = 0
            for reply in replies(grid, "train", content, nodes, 600.0):
                assert reply.content is not None
                record = reply.content["arrays"]
                mean.add({name: array.numpy() for name, array in record.items()}, 1 / sites)  # type: ignore[union-attr]
                answered += 1
            assert answered == sites
            start = {name: start[name] + change for name, change in mean.change().items()}
            seconds.append(time.perf_counter() - started)
    _report(seconds, before)


def flowers(work: str, sites: int) -> None:
    """Rounds on Flower's simulation engine with its FedAvg."""
    from flwr.app import Array, ArrayRecord, Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    marks: list[float] = []
    held: list[float] = []
    server_app = ServerApp()
    start = _start(work)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites
        )
        held.append(_peak_mib())
        arrays = ArrayRecord({name: Array(value) for name, value in start.items()})
        marks.append(time.perf_counter())
        for _ in range(_ROUNDS):
            arrays = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=1).arrays
            marks.append(time.perf_counter())

    run_simulation(
        server_app=server_app,
        client_app=import_module(_CLIENTS[work]).app,
        num_supernodes=sites,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    _report([later - sooner for sooner, later in pairwise(marks)], held[0])


def round_times(sites: list[int], work: str = "none") -> list[dict[str, Any]]:
    """Both engines at each number of sites, in turn; ``work`` of a site is ``none`` or ``training``."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    one_thread = {"OMP_NUM_THREADS": "1"}  # in the clients of both, as many of which run as there are processors
    found = []
    for count in sites:
        row: dict[str, Any] = {"sites": count}
        for name in ("ours", "flowers"):
            command = [sys.executable, "-m", "tests.benchmarks.round", "--engine", name, work, str(count)]
            environment = os.environ | quiet | one_thread
            ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
            row[name] = json.loads(ended.stdout.splitlines()[-1])
        row["flowers_over_ours"] = round(row["flowers"]["seconds_a_round"] / row["ours"]["seconds_a_round"], 1)
        found.append(row)
    return found


def main(arguments: list[str]) -> None:
    """Print the table as JSON; or, in a process of its own, what one engine takes."""
    if arguments[:1] == ["--engine"]:
        {"ours": ours, "flowers": flowers}[arguments[1]](arguments[2], int(arguments[3]))
        return
    work = "training" if "--training" in arguments else "none"
    counts = [int(each) for each in arguments if each != "--training"]
    print(json.dumps(round_times(counts or [4, 40, 400, 1000], work), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
