"""An exported model needs transformers and nothing of Hanse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.model import build_classifier
from common.study import Study
from common.study_file import parse_study
from common.text import batches, load_tokenizer, tokenize
from tests.tiny import tiny_rows, tiny_study_text

_STRANGER = """
import importlib.abc, json, sys

class WithoutHanse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"common", "client", "server", "deploy", "opacus", "flwr"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, WithoutHanse())
from transformers import pipeline
classify = pipeline("text-classification", model=sys.argv[1], device=-1, top_k=None)
scores = classify(json.load(sys.stdin))
print(json.dumps([{item["label"]: item["score"] for item in one} for one in scores]))
"""


@pytest.mark.parametrize("trainable", ["lora", "head", "full"])
def test_pipeline_without_hanse_gives_the_same_predictions(
    trainable: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """A process that cannot import Hanse, Opacus or Flower computes the same probabilities."""
    study: Study = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", [f"model.trainable={trainable}"])
    classifier = build_classifier(study).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tokenizer = load_tokenizer(tiny_base)
    classifier.save(tmp_path)
    tokenizer.save_pretrained(str(tmp_path))
    texts = [text for text, _, _ in tiny_rows(12, seed=9)]
    output = subprocess.run(
        [sys.executable, "-c", _STRANGER, str(tmp_path)],
        input=json.dumps(texts), capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    theirs = np.array([[one["negative"], one["positive"]] for one in json.loads(output.splitlines()[-1])])
    tokenized = tokenize(tokenizer, texts, [0] * len(texts), study.task.max_length)
    ours = np.zeros_like(theirs)
    with torch.no_grad():
        for batch in batches(tokenized, np.arange(len(texts)), 4):
            ours[batch.indexes] = torch.softmax(classifier(**batch.inputs).logits, dim=1).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
    assert ours.std() > 0.01, "the model says the same of every text; the comparison would show nothing"
