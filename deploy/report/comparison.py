"""What tells several runs apart, and what they came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.report.facts import RunFacts

__all__ = ["ComparedRun", "compared", "flat_settings", "label_of", "varying_keys"]


@dataclass(frozen=True)
class ComparedRun:
    """One row of the comparison, as words."""

    name: str
    state: str
    settings: tuple[str, ...]
    epsilon: str
    """The largest of a site, in this run."""
    figures: tuple[str, ...]
    """Test accuracy, macro F1, loss, worst domain's accuracy."""
    megabytes: str
    seconds: str


def flat_settings(run: RunFacts) -> dict[str, Any]:
    """Every key of the run's study, as ``privacy.epsilon``, with its value."""
    return _flat(json.loads(run.study.to_json()))


def varying_keys(runs: Sequence[RunFacts]) -> list[str]:
    """Keys of the study, as ``privacy.epsilon``, whose values differ among the runs."""
    flat = [flat_settings(run) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    return [key for key in keys if len({json.dumps(each.get(key), sort_keys=True) for each in flat}) > 1]


def label_of(run: RunFacts, keys: Sequence[str]) -> str:
    """The run's values of some keys, as ``trainable=head, rounds=5``."""
    flat = flat_settings(run)
    return ", ".join(f"{key.rpartition('.')[2]}={_told(flat.get(key))}" for key in keys)


def compared(runs: Sequence[RunFacts]) -> tuple[list[str], list[ComparedRun]]:
    """The keys that differ, and a row for each run."""
    keys = varying_keys(runs)
    return keys, [_row(run, keys) for run in runs]


def _row(run: RunFacts, keys: Sequence[str]) -> ComparedRun:
    flat = flat_settings(run)
    guarantee = run.guarantee
    test = run.test
    overall = test["overall"] if test else {}
    worst = (test or {}).get("worst_domain")
    scores = [overall.get(key) for key in ("accuracy", "macro_f1", "loss")]
    scores.append(test["by_domain"][worst].get("accuracy") if test and worst else None)
    sent = sum(record.bytes_sent + record.bytes_received for record in run.rounds)
    total = (run.result or {}).get("seconds", {}).get("total")
    return ComparedRun(
        name=run.name,
        state=run.state,
        settings=tuple(_told(flat.get(key)) for key in keys),
        epsilon="none" if not run.private else "" if guarantee is None else f"{guarantee.epsilon:.3f}",
        figures=tuple("" if score is None else f"{score:.4f}" for score in scores),
        megabytes=f"{sent / 1e6:.2f}",
        seconds="" if total is None else f"{total:.1f}",
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)
