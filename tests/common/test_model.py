"""Every architecture and trainable mode: what trains, what is saved, and that anyone can load it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.errors import BadInput, NotYet
from common.model import Classifier, build_classifier, load_saved_classifier
from common.study import Study
from common.study_file import parse_study
from common.text import Batch, batches, load_tokenizer, tokenize
from tests.tiny import tiny_rows, tiny_study_text, write_tiny_base

ARCHITECTURES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert")
POOLED = [*((architecture, "cls") for architecture in ARCHITECTURES), ("bert", "mean"), ("modernbert", "mean")]
MODES = ("full", "lora", "bias", "head")

HEADS = {
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
    "distilbert": {f"{part}.{kind}" for part in ("pre_classifier", "classifier") for kind in ("weight", "bias")},
    "deberta-v2": {f"{part}.{kind}" for part in ("pooler.dense", "classifier") for kind in ("weight", "bias")},
    "modernbert": {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"},
}
LORA_PLACES = {  # layer's path and its query and value projections
    "bert": ("bert.encoder.layer.{}.attention.self.", ("query", "value")),
    "roberta": ("roberta.encoder.layer.{}.attention.self.", ("query", "value")),
    "distilbert": ("distilbert.transformer.layer.{}.attention.", ("q_lin", "v_lin")),
    "deberta-v2": ("deberta.encoder.layer.{}.attention.self.", ("query_proj", "value_proj")),
    "modernbert": ("model.layers.{}.attn.", ("Wqkv",)),
}
LORA_ALL_PER_LAYER = {"bert": 6, "roberta": 6, "distilbert": 6, "deberta-v2": 6, "modernbert": 4}
TEXTS = [text for text, _, _ in tiny_rows(9, seed=5)]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each architecture."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: write_tiny_base(folder / name, name) for name in ARCHITECTURES}


def study_of(base: Path, *overrides: str) -> Study:
    return parse_study(tiny_study_text(base, base), "tiny", overrides)


def built(base: Path, mode: str, pooling: str, *more: str) -> Classifier:
    return build_classifier(study_of(base, f"model.trainable={mode}", f"model.pooling={pooling}", *more))


def perturb(classifier: Classifier, size: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def padded_batch(base: Path, texts: list[str] = TEXTS, max_length: int = 16) -> Batch:
    tokens = tokenize(load_tokenizer(base), texts, [0] * len(texts), max_length)
    assert len(set(tokens.lengths.tolist())) > 1, "unequal lengths are the point"
    return next(batches(tokens, np.arange(len(texts)), len(texts)))


def exported_logits(folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return network(**inputs).logits


def own_logits(classifier: Classifier, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return classifier.eval()(**inputs).logits


class TestWhatTrains:
    """The names of trainable parameters."""

    @pytest.mark.parametrize(("architecture", "pooling"), POOLED)
    @pytest.mark.parametrize("mode", MODES)
    def test_names_of_trainable_parameters(
        self, bases: dict[str, Path], architecture: str, pooling: str, mode: str
    ) -> None:
        classifier = built(bases[architecture], mode, pooling, "model.lora_targets=attention")
        everything = {name.removeprefix("network.") for name, _ in classifier.named_parameters()}
        head = HEADS[architecture]
        assert head <= everything
        place, projections = LORA_PLACES[architecture]
        expected = {
            "head": head,
            "bias": head | {name for name in everything if name.endswith(".bias")},
            "full": everything,
            "lora": head
            | {
                f"{place.format(layer)}{projection}.lora_{factor}.default.weight"
                for layer in (0, 1)
                for projection in projections
                for factor in "AB"
            },
        }[mode]
        if architecture == "bert" and pooling == "mean":
            expected = {name for name in expected if ".pooler." not in name}  # mean pooling bypasses it
        assert set(classifier.trainable()) == {f"network.{name}" for name in expected}
        assert set(classifier.trainable(head_only=True)) == {f"network.{name}" for name in head}

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_lora_on_values_reaches_one_projection_of_each_layer(
        self, bases: dict[str, Path], architecture: str
    ) -> None:
        classifier = built(bases[architecture], "lora", "cls", "model.lora_targets=value")
        place, projections = LORA_PLACES[architecture]
        assert {name for name in classifier.trainable() if ".lora_" in name} == {
            f"network.{place.format(layer)}{projections[-1]}.lora_{factor}.default.weight"
            for layer in (0, 1)
            for factor in "AB"
        }

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_lora_on_all_layers_reaches_every_linear_layer_of_the_encoder(
        self, bases: dict[str, Path], architecture: str
    ) -> None:
        classifier = built(bases[architecture], "lora", "cls", "model.lora_targets=all")
        factors = [name for name in classifier.trainable() if ".lora_" in name]
        assert len(factors) == 2 * 2 * LORA_ALL_PER_LAYER[architecture]

    def test_rank_and_scale_are_those_of_the_study(self, bases: dict[str, Path]) -> None:
        classifier = built(bases["bert"], "lora", "cls", "model.lora_rank=3", "model.lora_alpha=9.0")
        shapes = {p.shape for name, p in classifier.trainable().items() if ".lora_A" in name}
        assert shapes == {(3, 32)}
        value = classifier.network.bert.encoder.layer[0].attention.self.value
        assert value.scaling == {"default": 3.0}

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_dropout_is_the_studys_everywhere(self, bases: dict[str, Path], architecture: str) -> None:
        for wanted in (0.0, 0.25):
            classifier = built(bases[architecture], "full", "cls", f"training.dropout={wanted}")
            # The library's own stable dropout of DeBERTa keeps its rate in the same attribute.
            rates = {
                float(module.p)
                for module in classifier.modules()
                if "Dropout" in type(module).__name__ and hasattr(module, "p")
            }
            assert rates <= {wanted} or rates == {0.0, wanted}, rates
            assert wanted in rates


class TestBuilding:
    """Initial weights, and what is refused."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_the_same_seed_gives_the_same_initial_weights(
        self, bases: dict[str, Path], architecture: str, mode: str
    ) -> None:
        first = built(bases[architecture], mode, "cls")
        torch.rand(3)  # what was drawn before must not matter
        again, other = (
            built(bases[architecture], mode, "cls"),
            built(bases[architecture], mode, "cls", "study.seed=4"),
        )
        for (name, one), two in zip(first.named_parameters(), again.parameters(), strict=True):
            assert torch.equal(one, two), name
        pairs = zip(first.parameters(), other.parameters(), strict=True)
        drawn = mode == "lora" or architecture != "bert"  # BERT's new head is one layer, which starts from zero
        assert any(not torch.equal(one, two) for one, two in pairs) is drawn

    @pytest.mark.parametrize(("architecture", "pooling"), POOLED)
    def test_the_head_starts_undecided(self, bases: dict[str, Path], architecture: str, pooling: str) -> None:
        classifier = built(bases[architecture], "lora", pooling)
        logits = own_logits(classifier, padded_batch(bases[architecture]).inputs)
        assert torch.equal(logits, torch.zeros(9, 2))

    def test_building_leaves_the_global_generator_alone(self, bases: dict[str, Path]) -> None:
        before = torch.random.get_rng_state()
        built(bases["bert"], "lora", "cls")
        assert torch.equal(before, torch.random.get_rng_state())

    @pytest.mark.parametrize("architecture", ["distilbert", "roberta", "deberta-v2"])
    def test_mean_pooling_is_refused_where_it_cannot_be_exported(
        self, bases: dict[str, Path], architecture: str
    ) -> None:
        with pytest.raises(NotYet, match=f'model.pooling = "mean": not yet for {architecture}'):
            built(bases[architecture], "lora", "mean")

    def test_texts_longer_than_the_model_reads_are_refused(self, bases: dict[str, Path]) -> None:
        with pytest.raises(BadInput, match=r"task\.max_length = 100: the base model reads at most 66"):
            built(bases["bert"], "lora", "cls", "task.max_length=100")

    def test_labels_are_those_of_the_study(self, bases: dict[str, Path]) -> None:
        classifier = built(bases["bert"], "head", "cls", 'task.labels=["sad", "so", "glad"]')
        assert classifier.network.config.id2label == {0: "sad", 1: "so", 2: "glad"}
        assert own_logits(classifier, padded_batch(bases["bert"]).inputs).shape == (9, 3)

    @pytest.mark.parametrize(
        ("mode", "targets"), [("full", "value"), ("bias", "value"), ("lora", "attention"), ("lora", "all")]
    )
    def test_p12_relative_attention_of_deberta_is_refused_in_a_private_run(
        self, bases: dict[str, Path], tmp_path: Path, mode: str, targets: str
    ) -> None:
        """Its query and key projections also read one table for the whole batch (Opacus #841's pattern).

        Opacus then adds the gradient of everybody's positions to the first example, unnoticed under LoRA.
        """
        base = relative_deberta(bases["deberta-v2"], tmp_path / "relative")
        with pytest.raises(NotYet, match=f'model.trainable = "{mode}": not yet for a deberta-v2 with relative'):
            built(base, mode, "cls", f"model.lora_targets={targets}")
        built(base, mode, "cls", f"model.lora_targets={targets}", "privacy.enabled=false")
        built(base, "head", "cls")
        built(base, "lora", "cls", "model.lora_targets=value")


def relative_deberta(plain: Path, folder: Path) -> Path:
    """A tiny DeBERTa configured as the published ones are."""
    from transformers import AutoConfig, AutoModel

    shutil.copytree(plain, folder)
    config = AutoConfig.from_pretrained(plain)
    config.update(
        {
            "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8,
        }
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


class TestWeights:
    """Copying trainable parameters out and in."""

    def test_weights_are_copies_and_load_back(self, bases: dict[str, Path]) -> None:
        classifier = built(bases["bert"], "lora", "mean")
        before = classifier.weights()
        perturb(classifier)
        assert not np.array_equal(
            before["network.classifier.weight"], classifier.weights()["network.classifier.weight"]
        )
        classifier.load(before)
        after = classifier.weights()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        assert {value.dtype for value in after.values()} == {np.dtype(np.float32)}

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("network.classifier.weight", (2, 31)), ("network.nothing", (2, 32)), ("network.classifier.bias", (1,))],
    )
    def test_a_foreign_tensor_is_refused(self, bases: dict[str, Path], name: str, shape: tuple[int, ...]) -> None:
        classifier = built(bases["bert"], "head", "cls")
        with pytest.raises(BadInput, match=name):
            classifier.load({name: np.zeros(shape, np.float32)})

    def test_a_frozen_parameter_cannot_be_loaded(self, bases: dict[str, Path]) -> None:
        classifier = built(bases["bert"], "head", "cls")
        name = "network.bert.embeddings.word_embeddings.weight"
        frozen = dict(classifier.named_parameters())[name]
        with pytest.raises(BadInput, match="not a trainable parameter"):
            classifier.load({name: np.zeros(tuple(frozen.shape), np.float32)})

    @pytest.mark.parametrize(("architecture", "pooling"), POOLED)
    def test_head_on_features_is_the_whole_model(
        self, bases: dict[str, Path], architecture: str, pooling: str
    ) -> None:
        classifier = built(bases[architecture], "head", pooling).eval()
        inputs = padded_batch(bases[architecture]).inputs
        with torch.inference_mode():
            logits = classifier.classify(classifier.features(**inputs))
        assert torch.equal(logits, own_logits(classifier, inputs))


class TestExport:
    """A saved folder is loaded by transformers alone."""

    @pytest.mark.parametrize(("architecture", "pooling"), POOLED)
    @pytest.mark.parametrize("mode", MODES)
    def test_transformers_alone_gives_the_same_logits(
        self, bases: dict[str, Path], tmp_path: Path, architecture: str, pooling: str, mode: str
    ) -> None:
        classifier = built(bases[architecture], mode, pooling, "model.lora_targets=all")
        inputs = padded_batch(bases[architecture]).inputs
        untouched = own_logits(classifier, inputs)
        perturb(classifier)
        ours = own_logits(classifier, inputs)
        assert (ours - untouched).abs().max() > 0.01, "the perturbation must show"
        classifier.save(tmp_path)
        assert (exported_logits(tmp_path, inputs) - ours).abs().max() < 1e-3

    def test_saving_leaves_the_model_as_it_was(self, bases: dict[str, Path], tmp_path: Path) -> None:
        classifier = built(bases["bert"], "lora", "mean")
        perturb(classifier)
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        trainable = set(classifier.trainable())
        classifier.save(tmp_path)
        assert set(classifier.trainable()) == trainable
        after = classifier.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_the_folder_holds_safetensors_and_no_trace_of_lora(
        self, bases: dict[str, Path], tmp_path: Path
    ) -> None:
        built(bases["bert"], "lora", "mean").save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
        with safe_open(tmp_path / "model.safetensors", framework="pt") as stored:
            names = list(stored.keys())
        assert not [name for name in names if "lora" in name or "base_layer" in name]
        config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
        assert config["architectures"] == ["BertForSequenceClassification"]
        assert config["id2label"] == {"0": "negative", "1": "positive"}
        assert config["num_hidden_layers"] == 3  # two, and the uniform one

    def test_a_pipeline_predicts_the_same(self, bases: dict[str, Path], tmp_path: Path) -> None:
        classifier = built(bases["bert"], "lora", "mean")
        perturb(classifier, 0.3)
        classifier.save(tmp_path)
        load_tokenizer(bases["bert"]).save_pretrained(tmp_path)
        assert_pipeline_agrees(tmp_path, classifier, padded_batch(bases["bert"]).inputs, TEXTS)

    @pytest.mark.embedded
    def test_the_embedded_model_exports_its_mean_pooling(self, tmp_path: Path) -> None:
        from common.base_model import resolve_base

        base = resolve_base("minilm-l6").path
        texts = [
            "A film that nobody should miss, least of all those who claim to dislike films.",
            "Dull.",
            "the plot , such as it is , goes nowhere",
            "Great value & fast shipping — would buy again!",
        ]
        inputs = padded_batch(base, texts, 64).inputs
        classifier = build_classifier(study_of(base, "model.base=minilm-l6", "model.pooling=mean"))
        perturb(classifier, 0.05)
        classifier.save(tmp_path)
        ours = own_logits(classifier, inputs)
        assert (exported_logits(tmp_path, inputs) - ours).abs().max() < 1e-3
        load_tokenizer(base).save_pretrained(tmp_path)
        assert_pipeline_agrees(tmp_path, classifier, inputs, texts)


def assert_pipeline_agrees(
    folder: Path, classifier: Classifier, inputs: dict[str, torch.Tensor], texts: list[str]
) -> None:
    from transformers import pipeline

    answers: list[Any] = pipeline("text-classification", model=str(folder), device="cpu")(texts, top_k=None)
    wanted = torch.softmax(own_logits(classifier, inputs), dim=-1)
    order = padded_order(folder, texts)
    for row, text_index in enumerate(order):
        scores = {answer["label"]: answer["score"] for answer in answers[text_index]}
        found = torch.tensor([scores["negative"], scores["positive"]])
        assert (found - wanted[row]).abs().max() < 1e-3


def padded_order(folder: Path, texts: list[str]) -> list[int]:
    """Which text stands in which row of :func:`padded_batch`."""
    return padded_batch(folder, texts, 64).indexes.tolist()


class TestLoadingASavedModel:
    """What ``hanse predict`` and ``evaluate`` read."""

    def test_network_and_labels_come_back(self, bases: dict[str, Path], tmp_path: Path) -> None:
        classifier = built(bases["bert"], "bias", "mean")
        perturb(classifier)
        classifier.save(tmp_path)
        network, labels = load_saved_classifier(tmp_path)
        assert labels == ["negative", "positive"]
        assert not network.training
        inputs = padded_batch(bases["bert"]).inputs
        with torch.inference_mode():
            assert (network(**inputs).logits - own_logits(classifier, inputs)).abs().max() < 1e-3

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no such model folder"):
            load_saved_classifier(tmp_path / "nowhere")

    def test_a_folder_of_pickled_weights_is_refused(self, bases: dict[str, Path], tmp_path: Path) -> None:
        built(bases["bert"], "head", "cls").save(tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
        with pytest.raises(BadInput, match=r"holds no \*\.safetensors"):
            load_saved_classifier(tmp_path)

    def test_a_damaged_configuration_is_refused(self, bases: dict[str, Path], tmp_path: Path) -> None:
        built(bases["bert"], "head", "cls").save(tmp_path)
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        with pytest.raises(BadInput, match="not a model folder"):
            load_saved_classifier(tmp_path)

    @pytest.mark.parametrize("damage", ["header", "shape"])
    def test_damaged_weights_are_refused(self, bases: dict[str, Path], tmp_path: Path, damage: str) -> None:
        built(bases["bert"], "head", "cls").save(tmp_path)
        if damage == "header":
            (tmp_path / "model.safetensors").write_bytes(b"no tensors")
        else:
            config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
            (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 34}), encoding="utf-8")
        with pytest.raises(BadInput, match="its weights cannot be loaded"):
            load_saved_classifier(tmp_path)
