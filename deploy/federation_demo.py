"""``hanse federation demo``: from nothing to a finished private study, by a coordinator and three sites."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.errors import BadInput, RunFailed
from common.files import write_text
from common.study_file import parse_study, write_study
from common.virtual_sites import virtual_sites
from deploy.local_federation import LocalFederation, LocalSite

__all__ = ["DemoReport", "SiteReport", "run_demo"]

_SITES: Final = ("north-clinic", "city-hospital", "coast-laboratory")
_SECONDS: Final = 1800.0

_STUDY: Final = """\
[study]
name = "reviews"

[task]
labels = ["negative", "positive"]

[model]
base = "minilm-l6"
trainable = "head"
warm_start_steps = 0

[data]                 # the coordinator's public validation and test sets; sites bring their own data
source = "embedded"
partition = "iid"
sites = 3

[privacy]
epsilon = 4.0
max_grad_norm = 2.0
batch_size = 160

[federation]
rounds = 4
steps_per_round = 5
server_learning_rate_decay = "linear"
min_sites = 2

[training]
learning_rate = 2.0
"""

_POLICY: Final = """\
[site]
name = "{name}"

[dataset]
name = "reviews"
unit = "example"
one_row_per_person = true
declared_size = {declared}

[budget]
epsilon = 4.0

[allow]
models = ["minilm-l6"]
trainable = ["head"]
strategies = ["fedavg"]

[disclose]
labels = ["negative", "positive"]
"""


@dataclass(frozen=True)
class SiteReport:
    """What one site spent, from its own ledger."""

    name: str
    epsilon: float
    delta: float
    entries: int


@dataclass(frozen=True)
class DemoReport:
    """What came out."""

    folder: Path
    run: Path
    accuracy: float
    rounds: int
    sites: tuple[SiteReport, ...]
    audit_passed: bool
    seconds: float


def run_demo(folder: Path, tell: Callable[[str], None]) -> DemoReport:
    """Set up, run and audit a federation in a new folder.

    Raises:
        BadInput: the folder holds something.
        RunFailed: a command failed, or the run did.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"--out {folder}: exists and is not an empty folder; name a new one")
    started = time.monotonic()
    federation = LocalFederation(folder, tell)
    tell("# What each operator has: a study, and at each site a data file and a policy")
    study, sites = _materials(federation.folder)
    tell("# Coordinator and sites get to know each other")
    federation.create("reviews-federation", study, sites)
    tell("# Each officer approves the study; each site checks itself")
    federation.approve(study)
    for site in sites:
        federation.hanse("site", "check", str(federation.home(site.name)), "--offline")
    tell("# Everything runs, each party in processes of its own, TLS between them")
    with federation:
        view = federation.finished_run("first", _SECONDS)
        if view["state"] != "completed":
            raise RunFailed(f"the run {view['state']}: {view['message']}")
    tell("# Evidence: each site exports its ledger, anyone can verify it")
    return _report(federation, sites, started)


def _materials(folder: Path) -> tuple[Path, list[LocalSite]]:
    materials = folder / "materials"
    materials.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    plan = parse_study(_STUDY, where="demo")
    study = materials / "study.toml"
    write_study(plan, study)
    sites = []
    for name, virtual in zip(_SITES, virtual_sites(plan).sites, strict=True):
        data, policy = materials / f"{name}.csv", materials / f"{name}.toml"
        with data.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows([each.text, plan.task.labels[each.label]] for each in virtual.examples)
        data.chmod(0o600)
        write_text(policy, _POLICY.format(name=name, declared=virtual.declared_size))
        sites.append(LocalSite(name, data, policy))
    return study, sites


def _report(federation: LocalFederation, sites: list[LocalSite], started: float) -> DemoReport:
    run = federation.coordinator / "runs" / "first"
    bundles, keys, found = [], [], []
    for site in sites:
        bundle = federation.folder / f"{site.name}.ledger"
        exported = federation.hanse("ledger", "export", str(bundle), "--site", str(federation.home(site.name)))
        verified = federation.hanse("ledger", "verify", str(bundle), "--key", exported["public_key"])
        spent = federation.hanse("budget", "--site", str(federation.home(site.name)))
        bundles.append(f"{site.name}={bundle}")
        keys += ["--key", f"{site.name}={exported['public_key']}"]
        found.append(_site_report(site.name, spent, verified))
    audit = federation.hanse("audit", "ledger", *bundles, *keys, "--run", str(run))
    result = _json(run / "result.json")
    return DemoReport(
        folder=federation.folder,
        run=run,
        accuracy=result["test"]["overall"]["accuracy"],
        rounds=result["rounds"],
        sites=tuple(found),
        audit_passed=not any(check["verdict"] == "failed" for check in audit["checks"]),
        seconds=time.monotonic() - started,
    )


def _site_report(name: str, spent: Any, verified: Any) -> SiteReport:
    budget = spent["datasets"][0]["budgets"][0]
    return SiteReport(name, budget["spent"], budget["delta"], verified["entries"])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
