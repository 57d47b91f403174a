"""The final figures of a study, with everything needed to tell what they rest on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from common.base_model import resolve_base
from common.evaluation import Evaluation
from common.schedule import planned_steps
from common.study import Study
from common.wire import SiteDescription
from server.checkpoint import Checkpoint
from server.records import RoundRecord
from server.rounds import Coordinator

__all__ = ["study_result"]

_PACKAGES = ("hanse", "torch", "flwr", "opacus", "transformers", "peft", "dp-accounting", "numpy")
_NOISE = (
    "Gaussian noise and Poisson sampling from an AES-256 keystream keyed by the operating system; noised sums "
    "rounded to a power-of-two grid against floating-point attacks."
)
_NOT_COVERED = (
    "no ledger was kept: nothing binds this run's budget to another run on the same data",
    "how long a site takes to answer may depend on its batches",
    "settings tuned on the sites' data cost budget that this run does not count",
)


def study_result(
    coordinator: Coordinator,
    records: list[RoundRecord],
    state: Checkpoint,
    test: Evaluation,
    seconds: float,
) -> dict[str, Any]:
    """The content of ``result.json``."""
    study = coordinator.study
    best = next(r.evaluation for r in records if r.round == state.best_round and r.evaluation)
    return {
        "study": study.study.name,
        "digest": study.digest(resolve_base(study.model.base).digest),
        "seed": study.study.seed,
        "private": study.privacy.enabled,
        "privacy": _privacy(study),
        "ledger": None,
        "sites": [_site(study, site, records) for site in coordinator.sites.values()],
        "rounds": len(records),
        "rounds_consumed": list(state.consumed),
        "best_round": state.best_round,
        "validation": best.to_json(),
        "test": test.to_json(),
        "bytes_sent": sum(record.bytes_sent for record in records),
        "bytes_received": sum(record.bytes_received for record in records),
        "seconds": {
            "total": round(seconds, 2),
            **{
                part: round(sum(record.seconds.get(part, 0.0) for record in records), 2)
                for part in ("train", "evaluate", "round")
            },
        },
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    }


def _privacy(study: Study) -> dict[str, Any]:
    if not study.privacy.enabled:
        return {"statement": "This run was NOT private: no clipping, no noise. For comparison only."}
    return {
        "statement": (
            "Each site's epsilon is for adding or removing one example (one row) of its training data, "
            "over this whole run alone. A person with several rows is protected less."
        ),
        "unit": study.privacy.unit,
        "adjacency": "add or remove one unit",
        "sampling": "Poisson, each unit independently in each step",
        "accountant": "PLD",
        "noise": _NOISE,
        "not_covered": list(_NOT_COVERED),
    }


def _site(study: Study, site: SiteDescription, records: list[RoundRecord]) -> dict[str, Any]:
    mine = [entry for record in records for entry in record.sites if entry.site == site.name]
    facts: dict[str, Any] = {
        "name": site.name,
        "declared_size": site.declared_size,
        "weight": site.weight,
        "rounds_replied": sum(entry.replied for entry in mine),
        "epsilon": None,
    }
    if study.privacy.enabled:
        facts |= {
            "epsilon": mine[-1].epsilon if mine else 0.0,
            "epsilon_budget": site.epsilon,
            "delta": site.delta,
            "noise_multiplier": site.noise_multiplier,
            "sample_rate": study.privacy.batch_size / site.declared_size,
            "steps": planned_steps(study),
        }
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
