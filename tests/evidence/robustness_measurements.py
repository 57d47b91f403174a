"""Measurements of robust, explained and small models; see ``tests.evidence.measurements`` for the manner."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MEASUREMENTS"]

ROOT = Path(__file__).resolve().parents[2]
_HANSE = str(Path(sys.executable).with_name("hanse"))
_RADIUS = 1.0
"""Of each example's move; a word vector of the embedded model is 1.07 long on average."""


def _trained(out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Train the default study with ``changes``; its result."""
    sets = [word for change in changes for word in ("--set", change)]
    command = [_HANSE, "simulate", *sets, "--out", str(out), "--json"]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
    return found


def _robustness(model: Path, changes: Sequence[str], attacked: int, texts: int) -> dict[str, Any]:
    """Accuracy on the study's own public test split: plain, under every check, and under attack."""
    from common.virtual_sites import public_sets
    from deploy.default_study import load_study
    from deploy.open_model import OpenModel
    from deploy.robustness.substitution import Attack
    from deploy.robustness.suite import Settings, robustness_report

    test = public_sets(load_study(None, list(changes))).test
    report = robustness_report(
        OpenModel(model),
        [example.text for example in test],
        [example.label for example in test],
        Settings(texts=texts, attacked=attacked, attack=Attack(words=2)),
    )
    assert report.substitution is not None
    return {
        "accuracy": round(report.accuracy, 4),
        "texts": report.texts,
        "attacked_texts": report.substitution.texts,
        "accuracy_before_attack": round(report.substitution.accuracy_before, 4),
        "robust_accuracy": round(report.substitution.accuracy_under_attack, 4),
        "failure_rates": {check.name: check.failure_rate for check in report.checks},
        "detection_auroc": {each.score: round(each.auroc, 4) for each in report.detection},
    }


def adversarial_training(attacked: int = 300, texts: int = 500, more: Sequence[str] = ()) -> dict[str, Any]:
    """The default study with and without adversarial training, private and not: accuracy plain and under attack.

    Robust accuracy: share of the first test texts still answered rightly after at most two gradient-guided word
    substitutions each.
    """
    found: dict[str, Any] = {"radius": _RADIUS, "words_replaced_at_most": 2, "more_settings": list(more)}
    for enabled in ("true", "false"):
        for radius in (0.0, _RADIUS):
            changes = [*more, f"privacy.enabled={enabled}", f"training.adversarial_radius={radius}"]
            with tempfile.TemporaryDirectory() as name:
                result = _trained(Path(name) / "run", changes)
                figures = _robustness(Path(name) / "run" / "model", changes, attacked, texts)
            epsilons = [site["epsilon"] for site in result["sites"] if site["epsilon"]]
            figures["epsilon_highest"] = max(epsilons, default=None)
            key = (
                f"privacy {'on' if enabled == 'true' else 'off'}, adversarial training {'on' if radius else 'off'}"
            )
            found[key] = figures
    return found


def export_speed(texts: int = 1000) -> dict[str, Any]:
    """The default study's model as ONNX, in 8 bits and distilled: scores, size and speed beside the original."""
    forms = {}
    with tempfile.TemporaryDirectory() as name:
        _trained(Path(name) / "run", ["privacy.enabled=false"])
        for form in ("onnx", "int8", "distilled"):
            command = [_HANSE, "export", f"{name}/run/model", "--format", form, "--out", f"{name}/{form}"]
            command += ["--data", "embedded", "--texts", str(texts), "--json"]
            output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            forms[form] = {key: value for key, value in json.loads(output).items() if key != "directory"}
    return forms


def attribution_completeness(texts: int = 100) -> dict[str, Any]:
    """Completeness error of integrated gradients over texts of the default study's test split."""
    from common.virtual_sites import public_sets
    from deploy.default_study import load_study
    from deploy.explain.attributions import LARGEST_ERROR, Explainer
    from deploy.open_model import OpenModel

    with tempfile.TemporaryDirectory() as name:
        _trained(Path(name) / "run", ["privacy.enabled=false"])
        explainer = Explainer(OpenModel(Path(name) / "run" / "model", "cpu"))
        test = public_sets(load_study(None, [])).test[:texts]
        found = [explainer.attributions(example.text) for example in test]
    errors = [each.completeness_error for each in found]
    return {
        "texts": len(found),
        "largest_error": max(errors),
        "mean_error": sum(errors) / len(errors),
        "limit": LARGEST_ERROR,
        "points_most": max(each.points for each in found),
    }


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "adversarial-training": adversarial_training,
    "export-speed": export_speed,
    "attribution-completeness": attribution_completeness,
}
"""Name in docs/evidence/ to what measures it."""
