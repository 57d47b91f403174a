"""A student is made of the original's own layers, and pooling stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput, NotYet
from common.model import build_classifier
from common.pooling import bert_with_uniform_layer
from common.study_file import parse_study
from common.text import load_tokenizer, tokenize
from deploy.export.distillation import Distillation, distill, kept_layers, shallower
from tests.tiny import tiny_rows, tiny_study_text, write_tiny_base


@given(st.integers(1, 40), st.data())
def test_kept_layers_are_spread_and_end_with_the_last(layers: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, layers))
    kept = kept_layers(layers, wanted)
    assert len(set(kept)) == wanted
    assert kept == sorted(kept)
    assert kept[0] >= 0
    assert kept[-1] == layers - 1
    gaps = [b - a for a, b in zip([-1, *kept], kept, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def network_of(base: Path, data: Path, *changes: str) -> object:
    study = parse_study(tiny_study_text(base, data), "tiny", ["model.trainable=full", *changes])
    return build_classifier(study).network.eval()


def test_all_layers_kept_is_the_original(tiny_base: Path, tiny_data: Path) -> None:
    network = network_of(tiny_base, tiny_data, "model.pooling=cls")
    ids = torch.tensor([[2, 5, 8, 3]])
    same = shallower(network, 2)
    torch.testing.assert_close(same(input_ids=ids).logits, network(input_ids=ids).logits)
    assert same is not network


def test_mean_pooling_is_kept_and_frozen(tiny_base: Path, tiny_data: Path) -> None:
    network = bert_with_uniform_layer(network_of(tiny_base, tiny_data))
    assert network.config.num_hidden_layers == 3
    texts = tokenize(load_tokenizer(tiny_base), [row[0] for row in tiny_rows(32)], [0] * 32, 16)
    before = {n: p.clone() for n, p in network.named_parameters()}
    student = distill(network, texts, Distillation(epochs=1))
    assert student.config.num_hidden_layers == 2  # half of two, and the pooling
    last = student.bert.encoder.layer[-1].state_dict()
    for name, value in network.bert.encoder.layer[-1].state_dict().items():
        assert torch.equal(last[name], value)
    assert torch.equal(student.bert.pooler.dense.weight, network.bert.pooler.dense.weight)
    assert not torch.equal(
        student.bert.encoder.layer[0].output.dense.weight, before["bert.encoder.layer.1.output.dense.weight"]
    )
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters())  # the original is untouched


def test_the_same_seed_gives_the_same_student_and_labels_are_not_read(tiny_base: Path, tiny_data: Path) -> None:
    network = network_of(tiny_base, tiny_data, "model.pooling=cls")
    rows = [row[0] for row in tiny_rows(40)]
    students = [
        distill(network, tokenize(load_tokenizer(tiny_base), rows, labels, 16), Distillation(epochs=1))
        for labels in ([0] * 40, [1] * 40)
    ]
    pairs = zip(students[0].parameters(), students[1].parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_student_learns_each_text_its_own_answer(tiny_base: Path, tiny_data: Path) -> None:
    """Were answers mixed up among the texts of a batch, no student could come near them."""
    torch.manual_seed(0)
    network = network_of(tiny_base, tiny_data, "model.pooling=cls")
    with torch.no_grad():
        network.classifier.weight.normal_(std=3.0)
    texts = tokenize(load_tokenizer(tiny_base), [row[0] for row in tiny_rows(64)], [0] * 64, 16)
    losses: list[float] = []
    plan = Distillation(epochs=30, learning_rate=2e-3, temperature=1.0)
    student = distill(network, texts, plan, lambda _, loss: losses.append(loss))
    from deploy.export.measure import agreement, logits_of
    from deploy.export.runners import TorchRunner

    found = agreement(logits_of(TorchRunner(network), texts), logits_of(TorchRunner(student), texts))
    assert found.same_label > 0.9
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("layers", [3, 99])
def test_more_layers_than_there_are_are_refused(tiny_base: Path, tiny_data: Path, layers: int) -> None:
    with pytest.raises(BadInput, match=f"--layers {layers}: must be from 1 to 2"):
        shallower(network_of(tiny_base, tiny_data), layers)


def test_an_architecture_that_cannot_be_cut_is_not_yet(tmp_path: Path, tiny_data: Path) -> None:
    base = write_tiny_base(tmp_path / "base", "modernbert")
    with pytest.raises(NotYet, match="modernbert"):
        distill(
            network_of(base, tiny_data), tokenize(load_tokenizer(base), ["a good film"], [0], 16), Distillation()
        )
