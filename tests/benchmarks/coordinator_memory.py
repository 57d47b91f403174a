"""Peak memory of a coordinator that aggregates large updates, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

__all__ = ["coordinator_memory"]

_CHILD = """
import json, resource, sys
import numpy as np
from common.wire import Update, pack_update, unpack_update
from common.privacy.mechanism import NotPrivate
from server.aggregation import StreamingMean
sites, parameters = int(sys.argv[1]), int(sys.argv[2])
start = {"layer": np.zeros(parameters, np.float32)}
mean = StreamingMean(start)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for site in range(sites):
    weights = {"layer": np.full(parameters, 0.01 * site, np.float32)}
    content = pack_update(Update(f"site-{site}", 1, weights, NotPrivate("benchmark")))
    del weights
    mean.add(unpack_update(content, start).weights, 1 / sites)
    del content
mean.change()
print(json.dumps({"before": before * 1024, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def coordinator_memory(megabytes: int = 50) -> dict[str, Any]:
    """Peak bytes with 4 and with 40 sites, each sending an update of ``megabytes``."""
    parameters = megabytes * 10**6 // 4
    peaks = {sites: _peak(sites, parameters) for sites in (4, 40)}
    return {
        "update_bytes": parameters * 4,
        "peak_bytes_4_sites": peaks[4],
        "peak_bytes_40_sites": peaks[40],
        "difference_in_models": round((peaks[40] - peaks[4]) / (parameters * 4), 3),
    }


def _peak(sites: int, parameters: int) -> int:
    output = subprocess.run(
        [sys.executable, "-c", _CHILD, str(sites), str(parameters)], check=True, capture_output=True, text=True
    ).stdout
    return int(json.loads(output)["peak"])
