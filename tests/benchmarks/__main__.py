"""`make bench`: the benchmarks that need no data of their own, printed for people."""

from __future__ import annotations

import json

from deploy.default_study import load_study
from tests.benchmarks.coordinator_memory import coordinator_memory
from tests.benchmarks.dp_step import dp_step, quick_cells
from tests.benchmarks.ledger_overhead import ledger_overhead
from tests.benchmarks.local_overhead import local_overhead
from tests.benchmarks.noise import generator_ratios

if __name__ == "__main__":
    print("private step", json.dumps(dp_step(quick_cells(), memory=False), indent=2))
    print("coordinator memory", json.dumps(coordinator_memory(), indent=2))
    print("private noise", json.dumps(generator_ratios(), indent=2))
    print("policy and ledger", json.dumps(ledger_overhead(load_study(None, [])), indent=2))
    print("local engine", json.dumps(local_overhead(load_study(None, [])), indent=2))
