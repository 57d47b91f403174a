"""The measurements behind the tasks and the evaluation: named entities, two stages, and the speed of scoring."""

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
_TEXTS = 10_000
_REPEATS = 3


def _study(file: str, out: Path, *overrides: str) -> dict[str, Any]:
    """Run a study of docs/studies in a process of its own and sum up its result."""
    settings = [part for override in overrides for part in ("--set", override)]
    started = time.perf_counter()
    command = [_HANSE, "simulate", f"docs/studies/{file}", *settings, "--out", str(out), "--json"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return _summary(json.loads(output)) | {
        "overrides": list(overrides),
        "command_wall_seconds": round(time.perf_counter() - started, 1),
    }


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    test = result["test"]
    kept = ("accuracy", "macro_f1", "loss", "perplexity", "examples")
    found: dict[str, Any] = {
        "private": result["private"],
        "test": {name: round(test["overall"][name], 4) for name in kept if name in test["overall"]},
        "best_round": result["best_round"],
        "rounds": result["rounds"],
        "epsilon_by_site": {s["name"]: s["epsilon"] and round(s["epsilon"], 4) for s in result["sites"]},
    }
    if "entities" in test:
        found["entity_f1"] = round(test["entities"]["f1"], 4)
        found["entity_f1_by_type"] = {kind: round(s["f1"], 4) for kind, s in test["entities"]["types"].items()}
        found["entity_f1_by_site"] = {n: round(s["f1"], 4) for n, s in test["entities_by_domain"].items()}
        found["worst_site"] = test["worst_domain"]
    return found


def ner_study(*overrides: str) -> dict[str, Any]:
    """Named entities in the Broad Twitter Corpus, six sections as six sites, plain and private."""
    with tempfile.TemporaryDirectory() as name:
        return {
            "plain": _study("ner.toml", Path(name) / "plain", "privacy.enabled=false", *overrides),
            "private": _study("ner.toml", Path(name) / "private", *overrides),
        }


def two_stage_study(adapt: tuple[str, ...] = (), classify: tuple[str, ...] = ()) -> dict[str, Any]:
    """AG News: masked adaptation without labels, then the classifier on that base; plain and private.

    The classifier without the first stage stands beside them.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for way, more in (("plain", ("privacy.enabled=false",)), ("private", ())):
            folder = Path(name) / way
            stage = _study("agnews-adapt.toml", folder / "adapt", *more, *adapt)
            base = f"model.base={folder / 'adapt' / 'model'}"
            found[way] = {
                "adapt": stage,
                "classify": _study("agnews.toml", folder / "classify", *more, base, *classify),
            }
            del found[way]["classify"]["overrides"][len(more)]  # a temporary folder
        bare = ("privacy.enabled=false", "model.base=minilm-l6", *classify)
        found["plain without the first stage"] = _study("agnews.toml", Path(name) / "bare", *bare)
    return found


def evaluation_speed(texts: int = _TEXTS, repeats: int = _REPEATS) -> dict[str, Any]:
    """Scoring with everything that a report says, against a bare loop of forward passes over the same batches."""
    import numpy as np
    import torch

    from common.base_model import resolve_base
    from common.embedded import EMBEDDED_LABELS, read_embedded
    from common.evaluation.figures import Predictions
    from common.evaluation.report import report_on_texts
    from common.evaluation.slices import length_names
    from common.model import build_classifier
    from common.study_file import parse_study
    from common.text import batches, load_tokenizer
    from deploy.default_study import DEFAULT_STUDY
    from deploy.inference import SavedModel

    rows = read_embedded()[:texts]
    study = parse_study(DEFAULT_STUDY, "default")
    with tempfile.TemporaryDirectory() as name:
        build_classifier(study).save(Path(name))
        load_tokenizer(resolve_base(study.model.base).path).save_pretrained(name)
        saved = SavedModel(Path(name))
    tokens = saved.tokenized([str(row.text) for row in rows])
    targets = np.array([EMBEDDED_LABELS.index(str(row.label)) for row in rows], np.int64)
    ready = list(batches(tokens, np.arange(len(tokens)), 64))
    bare: list[float] = []
    whole: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in ready:
                saved.network(**batch.inputs)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        predictions = Predictions(saved.logits(tokens), targets, tuple(EMBEDDED_LABELS))
        report_on_texts(predictions, {"length": length_names(tokens.lengths)}).to_json()
        whole.append(time.perf_counter() - started)
    return {
        "texts": len(tokens),
        "bare_loop_seconds": [round(seconds, 2) for seconds in bare],
        "evaluation_seconds": [round(seconds, 2) for seconds in whole],
        "share_of_the_bare_loops_speed": round(min(bare) / min(whole), 3),
        "threads": torch.get_num_threads(),
    }


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ner-study": ner_study,
    "two-stage-study": two_stage_study,
    "evaluation-speed": evaluation_speed,
}
"""Name in docs/evidence/ to what measures it."""
