"""The two engines run the same study to the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.study_file import parse_study
from deploy.simulation import simulate
from tests.tiny import tiny_study_text


@pytest.mark.slow
def test_local_and_ray_give_the_same_model(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Same study and seed, privacy off: every exported tensor agrees to float32 rounding."""
    models = {}
    for engine in ("local", "ray"):
        settings = ["privacy.enabled=false", f"simulation.engine={engine}", "federation.strategy=fedadam"]
        settings.append("model.warm_start_steps=0")  # the best round shall be one in which the encoder trains
        study = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", settings)
        directory = tmp_path / engine
        directory.mkdir()
        simulate(study, directory)
        models[engine] = load_file(directory / "model" / "model.safetensors")
    start = load_file(tiny_base / "model.safetensors")
    assert models["local"].keys() == models["ray"].keys()
    for name, value in models["local"].items():
        np.testing.assert_allclose(value, models["ray"][name], rtol=0, atol=1e-6, err_msg=name)
    value_matrix = "encoder.layer.0.attention.self.value.weight"
    assert not np.array_equal(models["local"][f"bert.{value_matrix}"], start[value_matrix]), "nothing was trained"
