"""The measurements behind docs/evidence/, by name."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MEASUREMENTS"]

ROOT = Path(__file__).resolve().parents[2]
_HANSE = str(Path(sys.executable).with_name("hanse"))


def _simulate(*arguments: str) -> dict[str, Any]:
    """Run `hanse simulate` in a process of its own and sum up its result."""
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        command = [_HANSE, "simulate", *arguments, "--out", f"{name}/run", "--json"]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - started
    return summary(json.loads(output)) | {"command_wall_seconds": round(seconds, 1)}


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run's ``result.json`` that are stated anywhere."""
    test = result["test"]
    return {
        "test_accuracy": round(test["overall"]["accuracy"], 4),
        "test_macro_f1": round(test["overall"]["macro_f1"], 4),
        "test_examples": test["overall"]["examples"],
        "test_accuracy_by_domain": {name: round(s["accuracy"], 4) for name, s in test["by_domain"].items()},
        "epsilon_by_site": {
            site["name"]: site["epsilon"] and round(site["epsilon"], 4) for site in result["sites"]
        },
        "delta_by_site": {site["name"]: site.get("delta") for site in result["sites"]},
        "best_round": result["best_round"],
        "rounds": result["rounds"],
        "private": result["private"],
        "training_wall_seconds": result["seconds"]["train"],
        "evaluation_wall_seconds": result["seconds"]["evaluate"],
    }


def _runs(times: int, *arguments: str) -> dict[str, Any]:
    runs = [_simulate(*arguments) for _ in range(times)]
    accuracies = [run["test_accuracy"] for run in runs]
    return {
        "arguments": list(arguments),
        "accuracy_lowest": min(accuracies),
        "accuracy_highest": max(accuracies),
        "epsilon_highest": max((e for run in runs for e in run["epsilon_by_site"].values() if e), default=None),
        "runs": runs,
    }


def default_study() -> dict[str, Any]:
    """The default study three times."""
    return _runs(3)


def default_study_privacy_off() -> dict[str, Any]:
    """The default study once with privacy off."""
    return _runs(1, "--set", "privacy.enabled=false")


def head_study() -> dict[str, Any]:
    """The head alone at epsilon 1, three times."""
    return _runs(3, "docs/studies/head.toml")


def sst2_study() -> dict[str, Any]:
    """SST-2 over four iid sites, private. Takes up to an hour."""
    return _runs(1, "docs/studies/sst2.toml")


def sst2_study_privacy_off() -> dict[str, Any]:
    """The same study and number of steps with privacy off. Takes up to an hour."""
    return _runs(1, "docs/studies/sst2.toml", "--set", "privacy.enabled=false")


def sst2_study_privacy_off_short() -> dict[str, Any]:
    """A third of its rounds with privacy off."""
    return _runs(1, "docs/studies/sst2.toml", "--set", "privacy.enabled=false", "--set", "federation.rounds=20")


def pooling() -> dict[str, Any]:
    """The default study with mean and with CLS pooling, private and not."""
    results = {}
    for kind in ("mean", "cls"):
        for enabled in ("true", "false"):
            key = f"{kind}, privacy {'on' if enabled == 'true' else 'off'}"
            results[key] = _simulate("--set", f"model.pooling={kind}", "--set", f"privacy.enabled={enabled}")
    return results


def engines_agree() -> dict[str, Any]:
    """The same study, privacy off, on both engines: largest difference between the two models."""
    from safetensors.numpy import load_file

    arguments = [
        "--set",
        "privacy.enabled=false",
        "--set",
        "federation.rounds=2",
        "--set",
        "privacy.batch_size=32",
    ]
    models = {}
    with tempfile.TemporaryDirectory() as name:
        for engine in ("local", "ray"):
            out = f"{name}/{engine}"
            command = [_HANSE, "simulate", *arguments, "--engine", engine, "--out", out, "--json"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            models[engine] = load_file(f"{out}/model/model.safetensors")
    differences = [float(abs(value - models["ray"][key]).max()) for key, value in models["local"].items()]
    return {"arguments": arguments, "tensors": len(differences), "largest_difference": max(differences)}


def coordinator_memory() -> dict[str, Any]:
    """Peak memory of aggregation with 4 and 40 sites of 50 MB."""
    from tests.benchmarks.coordinator_memory import coordinator_memory as measure

    return measure()


def local_overhead() -> dict[str, Any]:
    """Wall time of rounds over pure training time, default study."""
    from deploy.default_study import load_study
    from tests.benchmarks.local_overhead import local_overhead as measure

    return measure(load_study(None, []))


def ledger_overhead() -> dict[str, Any]:
    """Time of policy and ledger over training time, default study."""
    from deploy.default_study import load_study
    from tests.benchmarks.ledger_overhead import ledger_overhead as measure

    return measure(load_study(None, []))


def ledger_crashes() -> dict[str, Any]:
    """300 kills over reserve, train and settle: the ledger verifies and counts enough after each."""
    from dataclasses import asdict

    from tests.common.privacy.crashing import kill_many

    with tempfile.TemporaryDirectory() as name:
        return asdict(kill_many(Path(name) / "sites", 300))


def round_without_work() -> dict[str, Any]:
    """A round of 1 MB without work at 4 to 1,000 sites, against Flower's own engine and FedAvg."""
    from tests.benchmarks.round import round_times

    return {"rounds": round_times([4, 40, 400, 1000])}


def round_with_training() -> dict[str, Any]:
    """The same, every site training a tiny BERT for two plain steps."""
    from tests.benchmarks.round import round_times

    return {"rounds": round_times([4, 40, 400, 1000], "training")}


def private_run_ratio() -> dict[str, Any]:
    """Training time of the default study, private over privacy off; twice, in turn."""
    pairs = []
    for _ in range(2):
        plain = _simulate("--set", "privacy.enabled=false")["training_wall_seconds"]
        pairs.append({"private": _simulate()["training_wall_seconds"], "privacy_off": plain})
    ratios = [round(pair["private"] / pair["privacy_off"], 3) for pair in pairs]
    return {"pairs": pairs, "ratios": ratios}


def private_step() -> dict[str, Any]:
    """The private step against the plain one, all cells of the embedded model; an interrupted run goes on."""
    return _private_step("minilm")


def private_step_bert_base() -> dict[str, Any]:
    """The same at the shape of BERT base. Takes 20 minutes."""
    return _private_step("bert-base")


def _private_step(base: str) -> dict[str, Any]:
    from tests.benchmarks.dp_step import all_cells, dp_step, kept_file

    kept = kept_file(base)
    cells = dp_step(all_cells(base), kept=kept)
    kept.unlink()  # only an interrupted measurement goes on: the next one is a new one
    return {"cells": cells}


def start_up() -> dict[str, Any]:
    """Wall time of `hanse --help`, seven times."""
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([_HANSE, "--help"], check=True, capture_output=True)
        seconds.append(round(time.perf_counter() - started, 3))
    return {"seconds_median": sorted(seconds)[3], "seconds": seconds}


def demo_from_clone() -> dict[str, Any]:
    """`make demo` in a fresh clone with an empty asset cache: installation, assets and study."""
    import os

    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), f"{name}/hanse"], check=True)
        started = time.perf_counter()
        environment = os.environ | {"HANSE_CACHE": f"{name}/cache"}
        demo = subprocess.run(
            ["make", "demo"], cwd=f"{name}/hanse", env=environment, check=True, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
    return {"wall_seconds": round(seconds, 1), "output": demo.stdout.splitlines()[-60:]}


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "default-study": default_study,
    "default-study-privacy-off": default_study_privacy_off,
    "head-study": head_study,
    "sst2-study": sst2_study,
    "sst2-study-privacy-off": sst2_study_privacy_off,
    "sst2-study-privacy-off-short": sst2_study_privacy_off_short,
    "pooling": pooling,
    "engines-agree": engines_agree,
    "coordinator-memory": coordinator_memory,
    "local-overhead": local_overhead,
    "ledger-overhead": ledger_overhead,
    "ledger-crashes": ledger_crashes,
    "private-step": private_step,
    "private-step-bert-base": private_step_bert_base,
    "private-run-ratio": private_run_ratio,
    "round-without-work": round_without_work,
    "round-with-training": round_with_training,
    "start-up": start_up,
    "demo-from-clone": demo_from_clone,
}
"""Name in docs/evidence/ to what measures it."""
