"""Each form runs without Hanse's code path, agrees with the original within its tolerance, or is not written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from typer.testing import CliRunner, Result

from common.errors import BadInput, PolicyRefusal, RunFailed
from common.examples import Dataset, Example
from common.model import build_classifier
from common.study_file import parse_study
from common.text import load_tokenizer
from deploy.commands.export import export
from deploy.export import exporting
from deploy.export.exporting import ONNX_LARGEST_DIFFERENCE, learning_and_scored
from deploy.export.measure import agreement
from deploy.export.onnx_file import quantize, write_onnx
from deploy.export.runners import OnnxRunner
from deploy.inference import SavedModel
from deploy.open_model import OpenModel
from tests.deploy.trained import trained_tiny_model
from tests.tiny import tiny_rows, tiny_study_text

TEXTS = [row[0] for row in tiny_rows(40, seed=51)]
app = typer.Typer()
app.command()(export)


@pytest.fixture(scope="module")
def model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model that has learned."""
    return trained_tiny_model(tiny_base, tiny_data, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def onnx_file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ONNX; torch takes seconds to write it, so it is written once."""
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(OpenModel(model, "cpu"), file)
    return file


@pytest.fixture
def written_before(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of the model take that file instead of writing it anew."""
    monkeypatch.setattr(exporting, "write_onnx", lambda _, file: shutil.copyfile(onnx_file, file))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def asked(runner: OnnxRunner, model: OpenModel, texts: list[str]) -> np.ndarray:
    encoded = model.encode(texts)
    return runner(encoded.ids.numpy(), encoded.mask.numpy())


@pytest.mark.slow
@pytest.mark.usefixtures("written_before")
def test_onnx_agrees_for_any_batch_and_length_and_stands_alone(
    model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = invoke(model, "--format", "onnx", "--data", tiny_data, "--out", out, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["agreement"]["largest_logit_difference"] <= ONNX_LARGEST_DIFFERENCE
    assert found["agreement"]["same_label"] == 1.0
    assert found["exported"]["accuracy"] == found["original"]["accuracy"] > 0.9
    assert json.loads((out / "export.json").read_text())["format"] == "onnx"
    assert found["exported"]["bytes"] == (out / "model.onnx").stat().st_size
    onnx.checker.check_model(str(out / "model.onnx"))
    assert load_tokenizer(out).vocab_size == load_tokenizer(model).vocab_size
    opened, runner, wanted = OpenModel(model, "cpu"), OnnxRunner(out / "model.onnx"), SavedModel(model)
    for texts in ([TEXTS[0]], TEXTS[:7], TEXTS, ["good " * 60, "a"]):
        np.testing.assert_allclose(asked(runner, opened, texts), wanted.logits(texts), atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("written_before")
def test_int8_answers_alike_and_is_smaller(model: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = invoke(model, "--format", "int8", "--data", tiny_data, "--out", out, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["agreement"]["same_label"] >= exporting.INT8_LEAST_SAME
    assert found["agreement"]["largest_logit_difference"] > 0  # something was rounded
    assert {file.suffix for file in out.iterdir()} == {".json", ".onnx"}
    weights = onnx.load(out / "model_int8.onnx").graph.initializer
    assert any(each.data_type == onnx.TensorProto.INT8 for each in weights)


@pytest.mark.slow
def test_mean_pooling_survives_onnx_and_int8(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """The uniform layer with its large weights (decision 0001) is the hard case for 8 bits."""
    classifier = build_classifier(parse_study(tiny_study_text(tiny_base, tiny_data), "tiny")).eval()
    chooser = np.random.default_rng(0)
    classifier.load(
        {n: v + chooser.normal(size=v.shape).astype(np.float32) for n, v in classifier.weights().items()}
    )
    classifier.save(tmp_path / "model")
    load_tokenizer(tiny_base).save_pretrained(str(tmp_path / "model"))
    ended = invoke(tmp_path / "model", "--format", "onnx", "--data", tiny_data, "--json")
    assert ended.exit_code == 0, (ended.output, ended.exception)
    quantize(tmp_path / "model-onnx" / "model.onnx", tmp_path / "int8.onnx")
    opened = OpenModel(tmp_path / "model", "cpu")
    found = agreement(opened.logits(TEXTS), asked(OnnxRunner(tmp_path / "int8.onnx"), opened, TEXTS))
    assert found.same_label >= exporting.INT8_LEAST_SAME
    assert found.mean_probability_difference < 0.05


def test_distillation_gives_a_shallower_model_that_has_learned_the_answers(
    model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = invoke(model, "--format", "distilled", "--data", tiny_data, "--out", out, "--epochs", 8, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    losses = found["distillation_losses"]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert found["agreement"]["same_label"] > 0.85
    assert found["exported"]["bytes"] < found["original"]["bytes"]
    student = SavedModel(out)
    assert student.labels == SavedModel(model).labels
    assert OpenModel(out).network.config.num_hidden_layers == 1
    same = student.logits(TEXTS).argmax(axis=1) == SavedModel(model).logits(TEXTS).argmax(axis=1)
    assert same.mean() > 0.8


@pytest.mark.slow
@pytest.mark.usefixtures("written_before")
def test_a_form_that_does_not_agree_is_not_written(
    model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "INT8_LEAST_SAME", 1.01)
    ended = invoke(model, "--format", "int8", "--data", tiny_data, "--out", tmp_path / "out")
    assert isinstance(ended.exception, RunFailed)
    assert "nothing was written" in str(ended.exception)
    assert list(tmp_path.iterdir()) == []


def test_p20_distillation_refuses_a_sites_data(model: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text("")
    data = tmp_path / "rows.csv"
    data.write_bytes(tiny_data.read_bytes())
    ended = invoke(model, "--format", "distilled", "--data", data, "--out", tmp_path / "out")
    assert isinstance(ended.exception, PolicyRefusal)
    assert not (tmp_path / "out").exists()


def test_an_unknown_form_is_refused(model: Path) -> None:
    ended = invoke(model, "--format", "gguf")
    assert isinstance(ended.exception, BadInput)
    assert "--format gguf" in str(ended.exception)


def test_texts_that_are_scored_are_not_learned_from() -> None:
    rows = tuple(Example(f"text {n}", n % 2) for n in range(50))
    learning, scored = learning_and_scored(Dataset(rows, ("a", "b")), seed=0, most=1000)
    assert (len(learning), len(scored)) == (40, 10)
    assert not {e.text for e in learning} & {e.text for e in scored}
    with_test = Dataset(rows, ("a", "b"), test=tuple(Example(f"test {n}", 0) for n in range(20)))
    learning, scored = learning_and_scored(with_test, seed=0, most=5)
    assert len(learning) == 50
    assert len(scored) == 5
    assert all(each.text.startswith("test") for each in scored)
