"""Measurements of a deployment on one machine: what a round costs beyond training, and where that time goes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.study_file import parse_study, write_study
from common.virtual_sites import virtual_sites
from deploy.local_federation import LocalFederation, LocalSite

__all__ = ["MEASUREMENTS"]

_SECONDS = 3000.0

_STUDY = """\
[study]
name = "overhead"
[task]
labels = ["negative", "positive"]
max_length = 16
[model]
base = "{base}"
trainable = "{trainable}"
warm_start_steps = 0
[data]
source = "{data}"
partition = "iid"
sites = {sites}
[privacy]
batch_size = 8
[federation]
rounds = {rounds}
steps_per_round = 1
min_sites = {sites}
evaluate_every = 1000
[training]
physical_batch_size = 8
device = "cpu"
precision = "float32"
[simulation]
workers = 1
"""


def federation_overhead() -> dict[str, Any]:
    """Rounds of a deployment beside those of a simulation of the same study, with a small and a 440 MB update."""
    from tests.tiny import write_tiny_base

    with tempfile.TemporaryDirectory(prefix="hanse-") as name:
        folder = Path(name)
        small = write_tiny_base(folder / "small")
        large = _write_large_base(folder / "large", small)
        return {
            "small": _beside(folder / "s", small, trainable="lora", sites=3, rounds=5),
            "large": _beside(folder / "l", large, trainable="full", sites=2, rounds=4),
            "client_process_start_seconds": _client_start(),
        }


def _write_large_base(folder: Path, tokenizer: Path) -> Path:
    """BERT-base's shape with random weights, 440 MB, and the tiny tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    BertModel(BertConfig()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def _beside(folder: Path, base: Path, trainable: str, sites: int, rounds: int) -> dict[str, Any]:
    from tests.tiny import write_tiny_data

    folder.mkdir()
    data = write_tiny_data(folder / "public.csv", rows=600)
    text = _STUDY.format(base=base, data=data, trainable=trainable, sites=sites, rounds=rounds)
    plan = parse_study(text, where="overhead")
    study = folder / "study.toml"
    write_study(plan, study)
    # In a process of its own: what it holds would be missing to the guards.
    command = [sys.executable, "-m", "deploy.cli", "simulate", str(study), "--out", str(folder / "simulated")]
    subprocess.run([*command, "--json"], check=True, capture_output=True)
    deployed = _deployed(folder, study, [f"site-{n + 1}" for n in range(sites)])
    alone, together = _round_seconds(folder / "simulated"), _round_seconds(deployed)
    overheads = [there - here for there, here in zip(together[1:], alone[1:], strict=True)]
    record = json.loads((deployed / "rounds.jsonl").read_text().splitlines()[-1])
    return {
        "sites": sites,
        "update_megabytes": round(record["bytes_sent"] / sites / 1e6, 3),
        "simulated_round_seconds": [round(value, 2) for value in alone],
        "deployed_round_seconds": [round(value, 2) for value in together],
        "overhead_seconds_median_after_the_first_round": round(statistics.median(overheads), 2),
    }


def _deployed(folder: Path, study: Path, names: list[str]) -> Path:
    from common.study_file import read_study
    from tests.tiny import tiny_policy_text

    sites = []
    for name, virtual in zip(names, virtual_sites(read_study(study)).sites, strict=True):
        rows = folder / f"{name}.csv"
        lines = [f"{each.text},{('negative', 'positive')[each.label]}\n" for each in virtual.examples]
        rows.write_text("text,label\n" + "".join(lines))
        policy = folder / f"{name}.toml"
        trainable = '["full", "lora", "head"]'
        policy.write_text(
            tiny_policy_text(
                name, virtual.declared_size, trainable, budget="epsilon = 8.0", allow='approval = "none"'
            )
        )
        policy.chmod(0o600)
        sites.append(LocalSite(name, rows, policy))
    federation = LocalFederation(folder / "f", lambda line: None)
    federation.create("overhead", study, sites)
    with federation:
        view = federation.finished_run("run", _SECONDS)
    assert view["state"] == "completed", view["message"]
    return federation.coordinator / "runs" / "run"


def _round_seconds(run: Path) -> list[float]:
    return [
        float(json.loads(line)["seconds"]["train"]) for line in (run / "rounds.jsonl").read_text().splitlines()
    ]


def _client_start() -> float:
    """What starting one Flower client process takes at least: Python and the imports of the relay."""
    found = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import client.app"], check=True)
        found.append(time.perf_counter() - started)
    return round(statistics.median(found), 2)


def crashes() -> dict[str, Any]:
    """A hundred kills of sites, guards and coordinators at random moments of a running federation."""
    from tests.chaos.faults import CRASHES

    return _under_fire(100, CRASHES, seed=11)


def every_fault() -> dict[str, Any]:
    """Every kind of fault, four times each."""
    from tests.chaos.faults import Kind

    return _under_fire(4 * len(Kind), tuple(Kind), seed=12)


def _under_fire(most: int, kinds: tuple[Any, ...], seed: int) -> dict[str, Any]:
    from tests.chaos.__main__ import campaign

    with tempfile.TemporaryDirectory(prefix="hanse-") as name:
        return campaign(seed, most, kinds, Path(name)).to_json()


def fuzz() -> dict[str, Any]:
    """10,000 broken requests to a guard and 10,000 to a coordinator."""
    from dataclasses import asdict

    from tests.chaos.fuzz import fuzz_coordinator
    from tests.chaos.test_fuzz import guard_under_fuzz, running_coordinator
    from tests.tiny import tiny_study_text, write_tiny_base

    with tempfile.TemporaryDirectory(prefix="hanse-") as name:
        folder = Path(name)
        base = write_tiny_base(folder / "base")
        guard, kinds = guard_under_fuzz(parse_study(tiny_study_text(base, base), "tiny"), 10_000)
        with running_coordinator(folder) as (directory, pid, key):
            coordinator = fuzz_coordinator(directory, pid, key, 10_000)
    ledger = {str(kind): kinds.count(kind) for kind in sorted(set(kinds))}
    return {"guard": asdict(guard), "entries_in_the_guards_ledger": ledger, "coordinator": asdict(coordinator)}


def day_of_rounds() -> dict[str, Any]:
    """288 rounds, as many as a day has of five minutes each: what every process and folder holds meanwhile."""
    from tests.chaos.soak import soak
    from tests.chaos.world import World

    with tempfile.TemporaryDirectory(prefix="hanse-") as name, World(Path(name)).running() as world:
        return soak(world, rounds=288, seconds=3600.0)


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "federation-overhead": federation_overhead,
    "crashes": crashes,
    "every-fault": every_fault,
    "fuzz": fuzz,
    "day-of-rounds": day_of_rounds,
}
