"""Named entities, and two stages: a study of each task in real processes, private and plain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from common.evaluation import Evaluation
from common.sources import Columns, load_source
from deploy.evaluating import Asked, evaluate_saved
from deploy.predicting import predictions
from tests.tiny import tiny_study_text, write_tiny_sentences

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["O", "B-THING", "I-THING"]
WORDS = ["task.kind=token-classification", "task.labels=['O', 'B-THING', 'I-THING']"]
MASKED = ["task.kind=masked-language-modeling", "task.labels=[]", "model.warm_start_steps=0"]
FIRM = ["model.trainable=full", "model.warm_start_steps=0", "federation.rounds=6", "federation.steps_per_round=15",
        "training.optimizer=adamw", "training.learning_rate=0.003", "training.physical_batch_size=32",
        "privacy.batch_size=32", "privacy.enabled=false"]  # fmt: skip

pytestmark = pytest.mark.slow


def ran(folder: Path, name: str, text: str, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Run a study to its end; its directory and result."""
    study = folder / f"{name}.toml"
    study.write_text(text, encoding="utf-8")
    # One worker: that of each run loads torch anew.
    settings = [part for override in (*overrides, "simulation.workers=1") for part in ("--set", override)]
    command = [sys.executable, "-m", "deploy.cli", "simulate", str(study), "--out", str(folder / name), *settings]
    ended = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return folder / name, json.loads((folder / name / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sentences(tmp_path_factory.mktemp("sentences") / "rows.jsonl")


class TestEntities:
    """Tags of words."""

    @pytest.fixture(scope="class")
    def plain(self, tiny_base: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
        folder = tmp_path_factory.mktemp("plain")
        text = tiny_study_text(tiny_base, sentences)
        return ran(folder, "plain", text, *WORDS, *FIRM)

    def test_a_plain_study_learns_them(self, plain: tuple[Path, dict[str, Any]]) -> None:
        _, result = plain
        assert result["test"]["entities"]["f1"] > 0.8
        assert set(result["test"]["entities_by_domain"]) == {"north", "south", "east", "west"}
        assert Evaluation.from_json(result["test"]).headline == result["test"]["entities"]["f1"]

    def test_the_saved_model_finds_what_the_run_found(
        self, plain: tuple[Path, dict[str, Any]], sentences: Path
    ) -> None:
        """Loaded without Hanse it tags as it was scored, first tokens of words being all tokens here."""
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        directory, _ = plain
        model = AutoModelForTokenClassification.from_pretrained(directory / "model").eval()
        tokenizer = AutoTokenizer.from_pretrained(directory / "model")
        dataset, _ = load_source(str(sentences), LABELS, Columns("tokens", "tags"), "token-classification")
        texts = [example.text for example in dataset.examples[:20]]
        for text, found in zip(texts, predictions(directory / "model", texts), strict=True):
            with torch.no_grad():
                best = model(**tokenizer(text, return_tensors="pt")).logits[0, 1:-1].argmax(1)
            assert found.to_json()["tags"] == [model.config.id2label[int(label)] for label in best]

    def test_everything_is_evaluated_in_one_report(
        self, plain: tuple[Path, dict[str, Any]], sentences: Path
    ) -> None:
        directory, _ = plain
        asked = Asked(str(sentences), Columns(partition="region"), ("region",))
        found = evaluate_saved(directory / "model", asked).found.to_json()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["entities"]["f1"] > 0.8
        assert set(found["slices"]) == {"length", "region"}
        assert found["slices"]["region"]["worst"] == found["worst_domain"]
        assert found["figures"]["auroc"] > 0.99

    def test_a_private_study_stays_within_its_budget(
        self, tiny_base: Path, sentences: Path, tmp_path: Path
    ) -> None:
        _, result = ran(tmp_path, "private", tiny_study_text(tiny_base, sentences), *WORDS)
        assert all(0 < site["epsilon"] <= 8 for site in result["sites"])
        assert 0 <= result["test"]["entities"]["f1"] <= 1


def test_two_stages_adapt_without_labels_then_classify(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """The encoder that a private masked study left is the base of a private classifier, and moved from its own."""
    text = tiny_study_text(tiny_base, tiny_data)
    adapted, first = ran(tmp_path, "adapt", text, *MASKED, "federation.rounds=3")
    assert all(0 < site["epsilon"] <= 8 for site in first["sites"])
    assert first["test"]["overall"]["perplexity"] > 1
    before, after = load_file(tiny_base / "model.safetensors"), load_file(adapted / "model/model.safetensors")
    value = "encoder.layer.0.attention.self.value.weight"
    assert np.abs(before[value] - after[f"bert.{value}"]).max() > 0
    (filled,) = predictions(adapted / "model", ["the [MASK] was good"])
    assert len(filled.to_json()["guesses"][0]) == 5

    directory, second = ran(tmp_path, "classify", text, f"model.base={adapted / 'model'}")
    assert second["digest"] != first["digest"]
    assert second["test"]["overall"]["examples"] > 0
    based = load_file(directory / "model/model.safetensors")
    untouched = "bert.encoder.layer.0.attention.self.query.weight"
    assert np.array_equal(based[untouched], after[untouched])
