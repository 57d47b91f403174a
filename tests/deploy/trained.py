"""A tiny saved classifier that has learned its task; made in about two seconds, with plain torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from client.training import example_losses
from common.model import Classifier, build_classifier
from common.study_file import parse_study
from common.text import batches, load_tokenizer, tokenize
from tests.tiny import tiny_rows, tiny_study_text

__all__ = ["trained_tiny_model"]


def trained_tiny_model(base: Path, data: Path, folder: Path, steps: int = 80) -> Path:
    """Train on tiny rows and save to ``folder`` in Hugging Face format, tokenizer too."""
    study = parse_study(tiny_study_text(base, data), "tiny", ["model.trainable=full", "model.pooling=cls"])
    classifier: Classifier = build_classifier(study).train()
    tokenizer = load_tokenizer(base)
    rows = tiny_rows(32 * steps, seed=11)
    texts = tokenize(tokenizer, [row[0] for row in rows], [row[1] == "positive" for row in rows], 16)
    optimizer = torch.optim.AdamW(list(classifier.trainable().values()), lr=2e-3)
    for step in range(steps):
        for batch in batches(texts, np.arange(32 * step, 32 * (step + 1)), 32):
            optimizer.zero_grad()
            example_losses(classifier(**batch.inputs).logits, batch.labels).mean().backward()
            optimizer.step()
    classifier.eval().save(folder)
    tokenizer.save_pretrained(str(folder))
    return folder
