"""``make chaos N=50 SEED=1``: N faults of every kind; exit code 1 where an invariant did not hold."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.campaign import Campaign, Report
from tests.chaos.faults import Kind
from tests.chaos.world import World

__all__ = ["campaign"]


def campaign(seed: int, most: int, kinds: tuple[Kind, ...], folder: Path) -> Report:
    """Build a federation in ``folder`` and inject ``most`` faults; progress goes to the standard error."""

    def tell(line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)

    with World(folder).running() as world:
        return Campaign(world, seed, most, kinds, tell).run()


def main() -> int:
    """Read the command line, run, print the report as JSON."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("most", metavar="N", type=int, help="how many faults, at least 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(Kind), help="comma-separated; by default %(default)s")
    parser.add_argument("--keep", type=Path, help="a new folder with a short path; by default one that is removed")
    asked = parser.parse_args()
    if asked.most < 1:
        parser.error(f"N = {asked.most}: must be at least 1")
    if unknown := set(asked.kinds.split(",")) - set(Kind):
        parser.error(f"--kinds {','.join(sorted(unknown))}: must be of {', '.join(Kind)}")
    kinds = tuple(map(Kind, asked.kinds.split(",")))
    if asked.keep and asked.keep.exists():
        parser.error(f"--keep {asked.keep}: exists; name a new folder")
    if asked.keep:
        asked.keep.mkdir(parents=True)
        report = campaign(asked.seed, asked.most, kinds, asked.keep.absolute())
    else:
        with tempfile.TemporaryDirectory(prefix="hanse-") as name:
            report = campaign(asked.seed, asked.most, kinds, Path(name))
    print(json.dumps(report.to_json(), indent=2))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
