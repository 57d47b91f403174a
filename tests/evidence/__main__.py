"""`make evidence NAME=…`: run one measurement and rewrite its file under docs/evidence/."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.files import write_json
from tests.evidence import (
    audit_measurements,
    economics_measurements,
    federation_measurements,
    measurements,
    page_measurements,
    robustness_measurements,
    task_measurements,
)

MEASUREMENTS = {
    **measurements.MEASUREMENTS,
    **audit_measurements.MEASUREMENTS,
    **economics_measurements.MEASUREMENTS,
    **federation_measurements.MEASUREMENTS,
    **page_measurements.MEASUREMENTS,
    **robustness_measurements.MEASUREMENTS,
    **task_measurements.MEASUREMENTS,
}

ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, Any]:
    """What the figures depend on, without saying where the machine stands."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memory_gib": round(memory / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """The checkout's commit, marked where the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "*.py", "pyproject.toml", "docs/studies")
    return git("rev-parse", "HEAD") + ("+changes" if changed else "")


def main() -> int:
    """Run the measurement that is named on the command line."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in MEASUREMENTS:
        print(f"evidence: NAME={name}: must be one of {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    evidence = {
        "command": f"make evidence NAME={name}",
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "result": MEASUREMENTS[name](),
    }
    file = ROOT / "docs" / "evidence" / f"{name}.json"
    write_json(file, evidence)
    print(json.dumps(evidence["result"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
