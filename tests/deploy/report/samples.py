"""Run directories as a coordinator writes them, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from common.evaluation import Evaluation, evaluate_logits
from common.files import write_json
from common.privacy.mechanism import Mechanism, NotPrivate, SampledGaussian
from common.study import Study
from common.study_file import parse_study, write_study
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory

STUDY = """
[study]
name = "letters"
[task]
labels = ["no", "yes"]
[model]
warm_start_steps = 0
[data]
partition = "iid"
column = ""
[privacy]
batch_size = 10
"""
MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
"""What must be shown and never run."""


def study_of(*overrides: str) -> Study:
    """A study; nothing of it is there on disk."""
    return parse_study(STUDY, where="sample", overrides=overrides)


def evaluation_of(domains: list[str], right: float, seed: int = 0) -> Evaluation:
    """Forty examples of each domain, about the share ``right`` of them classified correctly."""
    chooser = np.random.default_rng(seed)
    targets = chooser.integers(0, 2, 40 * len(domains))
    sign = np.where(chooser.random(len(targets)) < right, 1.0, -1.0) * np.where(targets == 1, 1.0, -1.0)
    margin = sign * chooser.uniform(0.1, 2.5, len(targets))
    logits = np.stack([-margin, margin], axis=1).astype(np.float32)
    return evaluate_logits(logits, targets.tolist(), [name for name in domains for _ in range(40)])


def round_of(study: Study, number: int, sites: list[str], rounds: int) -> RoundRecord:
    """A round in which the last of several sites keeps silent now and then."""
    mechanism: Mechanism = SampledGaussian(0.8, 0.1, 1) if study.privacy.enabled else NotPrivate("a sample")
    spent = study.privacy.epsilon * number / rounds if study.privacy.enabled else None
    silent = sites[-1] if len(sites) > 1 and number % 5 == 0 else ""
    entries = tuple(
        SiteRound(site, mechanism, spent, site != silent, 1.0 + index / 10, "too late" if site == silent else "")
        for index, site in enumerate(sites)
    )
    right = 0.55 + 0.35 * number / rounds
    seconds = {"train": 2.0, "evaluate": 0.25, "round": 2.5}
    return RoundRecord(number, "train", 1, entries, evaluation_of(sites, right, number), 1000, 2000, seconds)


def write_run(
    directory: Path,
    *overrides: str,
    sites: tuple[str, ...] = ("north", "south"),
    rounds: int = 3,
    ends: bool = True,
) -> Path:
    """A run of ``rounds`` rounds over ``sites``; without ``ends`` it is still under way."""
    study = study_of(f"federation.rounds={rounds}", *overrides)
    run = RunDirectory(directory)
    write_study(study, directory / "study.toml")
    identifier = run.run_identifier()
    run.event("connecting", sites=len(sites), rounds=rounds)
    run.event("connected", sites=list(sites))
    last = rounds if ends else rounds - 1
    for number in range(1, last + 1):
        record = round_of(study, number, list(sites), rounds)
        run.event("round-started", round=number, phase="train", steps=1)
        run.add_round(record)
        run.event("round-finished", **record.to_json())
    if ends:
        write_json(run.result, result_of(study, list(sites), rounds, identifier))
        run.event("finished")
    else:
        run.event("round-started", round=rounds, phase="train", steps=1)
        run.event("site-replied", round=rounds, site=sites[0], reason="")
    return directory


def result_of(study: Study, sites: list[str], rounds: int, identifier: str) -> dict[str, Any]:
    """``result.json`` of such a run."""
    private = study.privacy.enabled
    facts: dict[str, Any] = {"declared_size": 100, "weight": 100.0, "rounds_replied": rounds, "epsilon": None}
    if private:
        facts |= {"epsilon": study.privacy.epsilon * 0.99, "epsilon_budget": study.privacy.epsilon, "delta": 1e-5}
        facts |= {"noise_multiplier": 0.8, "sample_rate": 0.1, "steps": rounds}
    return {
        "study": study.study.name,
        "digest": "ab" * 32,
        "seed": study.study.seed,
        "private": private,
        "privacy": {"statement": "Each site's epsilon ...", "not_covered": ["other runs on the same rows"]}
        if private
        else {"statement": "This run was NOT private"},
        "ledger": {"run": identifier, "heads": {site: {"sequence": 3, "hash": "cd" * 32} for site in sites}},
        "sites": [{"name": site, **facts} for site in sites],
        "rounds": rounds,
        "rounds_consumed": [],
        "best_round": rounds,
        "validation": evaluation_of(sites, 0.9, rounds).to_json(),
        "test": evaluation_of(sites, 0.85, 1000 + rounds).to_json(),
        "bytes_sent": 1000 * rounds,
        "bytes_received": 2000 * rounds,
        "seconds": {"total": 10.25, "train": 2.0 * rounds, "evaluate": 0.25 * rounds, "round": 2.5 * rounds},
        "versions": {"hanse": "0.1.0", "torch": None},
    }


def change_result(directory: Path, **changes: Any) -> None:
    """Replace parts of a run's result."""
    path = directory / "result.json"
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)
