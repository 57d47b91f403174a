"""The private step against the plain one: ours, Opacus' hooks, Opacus' ghost mode and functorch, interleaved.

``python -m tests.benchmarks.dp_step [--quick] [--json] [--kept FILE]``. Each cell is measured in a process of its
own. A ratio is the median over rounds in which every way takes one step. The first round warms up; a way that
takes more than half as long again as the plain step takes part in that one alone. Peak memory is that of a process
of its own which takes three steps in one way, less what it holds before the first (Linux). All these processes
keep freed memory, as those that train do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from client.memory_reuse import keep_freed_memory
from tests.benchmarks.step_ways import MODES, WAYS, Cell, Step, classifier_of, left_out, step_of

__all__ = ["Cell", "all_cells", "dp_step", "kept_file", "quick_cells"]

ROOT = Path(__file__).resolve().parents[2]
_SLOW = 1.5
_SECONDS = {"minilm": 5.0, "bert-base": 15.0}
"""What the rounds of a cell may take after the first."""


def measure(cell: Cell) -> dict[str, Any]:
    """Seconds and ratios of every way that runs; what the others said."""
    steps, broken = _running(cell)
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    _round(steps, seconds)
    first = {way: each[0] / seconds["plain"][0] for way, each in seconds.items()}
    steps = {way: step for way, step in steps.items() if first[way] <= _SLOW or way == "ours"}
    seconds = {way: [] for way in steps}
    ended = time.perf_counter() + _SECONDS[cell.base]
    while not seconds["plain"] or (time.perf_counter() < ended and len(seconds["plain"]) < 9):
        _round(steps, seconds)
    found = {way: [ratio] for way, ratio in first.items()} | {
        way: [s / p for s, p in zip(each, seconds["plain"], strict=True)] for way, each in seconds.items()
    }
    del found["plain"]
    reasons = {way: reason for way in WAYS if (reason := left_out(cell, way))}
    return {
        **vars(cell),
        "rounds": len(seconds["plain"]),
        "plain_seconds": round(statistics.median(seconds["plain"]), 4),
        "ratio": {way: round(statistics.median(each), 3) for way, each in found.items()},
        "ratio_lowest_highest": {way: [round(min(e), 3), round(max(e), 3)] for way, e in found.items()},
        **({"does_not_run": broken} if broken else {}),
        **({"left_out": reasons} if reasons else {}),
    }


def _round(steps: dict[str, Step], seconds: dict[str, list[float]]) -> None:
    for way, step in steps.items():
        started = time.perf_counter()
        step()
        seconds[way].append(time.perf_counter() - started)


def _running(cell: Cell) -> tuple[dict[str, Step], dict[str, str]]:
    """A step of every way that runs on two rows, and what the others said."""
    classifier = classifier_of(cell)
    steps: dict[str, Step] = {}
    broken: dict[str, str] = {}
    for way in WAYS:
        if left_out(cell, way):
            continue
        try:
            step_of(way, classifier, cell.small())()
            steps[way] = step_of(way, classifier, cell)
        except Exception as error:  # noqa: BLE001  a peer that cannot run this model is a finding
            broken[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
            classifier = classifier_of(cell)  # it may have left hooks behind
            steps = {name: step_of(name, classifier, cell) for name in steps}
    return steps, broken


def peak_memory(cell: Cell, way: str) -> dict[str, float]:
    """MiB that three steps of a way take at their peak, in this process; call it in one of its own."""
    step = step_of(way, classifier_of(cell), cell)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew from here
    before = _memory_figure("VmRSS")
    for _ in range(3):
        step()
    return {"mib": round(max(_memory_figure("VmHWM") - before, 0.0), 1)}


def _memory_figure(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in status if line.startswith(f"{name}:"))


def _in_a_process(cell: Cell, way: str = "") -> dict[str, Any]:
    """What :func:`measure` finds, or with a way :func:`peak_memory`; of a process that died, how."""
    job = json.dumps({**vars(cell), "way": way})
    command = [sys.executable, "-m", "tests.benchmarks.dp_step", "--job", job]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [""])[-1][:120]
        return {**vars(cell), "died": f"exit code {ended.returncode}: {said}"}
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _memory(cell: Cell) -> dict[str, Any]:
    ways = [way for way in WAYS if not left_out(cell, way) and (cell.base == "minilm" or way in WAYS[:3])]
    peaks = {way: _in_a_process(cell, way).get("mib") for way in ways}
    plain = peaks["plain"]
    if not plain or plain < 1:  # less than a MiB says nothing
        return {"memory_mib": peaks}
    ratios = {way: round(peak / plain, 3) for way, peak in peaks.items() if peak and way != "plain"}
    return {"memory_mib": peaks, "memory_ratio": ratios}


def quick_cells() -> list[Cell]:
    """The embedded model's four modes at one length and batch."""
    return [Cell("minilm", mode, 64, 16) for mode in MODES]


def all_cells(base: str) -> list[Cell]:
    """All modes of one model, lengths 64 and 128, batches 16 and 32."""
    return [Cell(base, mode, length, batch) for mode in MODES for length in (64, 128) for batch in (16, 32)]


def dp_step(cells: list[Cell], memory: bool = True, kept: Path | None = None) -> list[dict[str, Any]]:
    """Measure each cell; peak memory at length 64 and batch 16.

    Rows go to the file ``kept`` one by one, and those that it has of the same code are not measured again.
    """
    done = _rows(kept)
    found = []
    for cell in cells:
        row = next((row for row in done if all(row.get(key) == value for key, value in vars(cell).items())), None)
        if row is None:
            row = _in_a_process(cell)
            if memory and (cell.length, cell.batch) == (64, 16):
                row |= _memory(cell)
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"code": _code(), "row": row}) + "\n")
        found.append(row)
    return found


def kept_file(base: str) -> Path:
    """Where an interrupted measurement of one model goes on from."""
    return Path(tempfile.gettempdir()) / f"hanse-private-step-{base}.jsonl"


def _rows(kept: Path | None) -> list[dict[str, Any]]:
    if kept is None or not kept.exists():
        return []
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    return [line["row"] for line in lines if line["code"] == _code() and "died" not in line["row"]]


def _code() -> str:
    """Digest of what is measured."""
    files = [*sorted((ROOT / "client").glob("*.py")), *sorted((ROOT / "tests" / "benchmarks").glob("*step*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _print_table(rows: list[dict[str, Any]]) -> None:
    titles = "".join(f"{way:>14}" for way in WAYS[1:])
    print(f"{'model':<10}{'trains':<7}{'length':>7}{'batch':>6}{'plain s':>9}{titles}")
    for row in rows:
        figures = "".join(f"{row.get('ratio', {}).get(way, '-')!s:>14}" for way in WAYS[1:])
        seconds = row.get("plain_seconds", "-")
        print(f"{row['base']:<10}{row['mode']:<7}{row['length']:>7}{row['batch']:>6}{seconds!s:>9}{figures}")


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the embedded model at one size, without memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kept", type=Path, help="file of rows to go on from")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job = json.loads(arguments.job)
        way = job.pop("way")
        keep_freed_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(peak_memory(Cell(**job), way) if way else measure(Cell(**job))))
        return
    cells = quick_cells() if arguments.quick else [*all_cells("minilm"), *all_cells("bert-base")]
    rows = dp_step(cells, memory=not arguments.quick, kept=arguments.kept)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


if __name__ == "__main__":
    main()
