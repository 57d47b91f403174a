"""A tiny saved classifier."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a head that was never trained, but is not zero."""
    import numpy as np

    from common.model import build_classifier
    from common.study_file import parse_study
    from common.text import load_tokenizer
    from tests.tiny import tiny_study_text

    study = parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny")
    classifier = build_classifier(study)
    chooser = np.random.default_rng(1)
    weights = classifier.weights()
    for name in weights:
        if "classifier" in name:
            weights[name] = chooser.normal(size=weights[name].shape).astype(np.float32)
    classifier.load(weights)
    folder = tmp_path_factory.mktemp("model") / "model"
    classifier.save(folder)
    load_tokenizer(tiny_base).save_pretrained(str(folder))
    return folder
