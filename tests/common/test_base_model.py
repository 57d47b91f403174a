"""Pretrained models are found, pinned and never unpickled; their digest covers weights and tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from common import base_model
from common.base_model import SUPPORTED_ARCHITECTURES, BaseModel, resolve_base
from common.errors import BadInput, NotYet
from tests.tiny import write_tiny_base


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_a_local_folder_of_each_architecture(tmp_path: Path, architecture: str) -> None:
    folder = write_tiny_base(tmp_path / "base", architecture)
    assert resolve_base(str(folder)) == BaseModel(folder.resolve(), architecture)


@pytest.mark.embedded
def test_the_embedded_default() -> None:
    assert resolve_base("minilm-l6").architecture == "bert"


@pytest.mark.parametrize("base", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_missing_folder(base: str) -> None:
    with pytest.raises(BadInput, match=r"no such folder"):
        resolve_base(base)


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(BadInput, match=r"neither .* nor a folder, nor a hub id"):
        resolve_base("bert-base-uncased")


@pytest.mark.parametrize("base", ["google-bert/bert-base-uncased", "google-bert/bert-base-uncased@"])
def test_p18_an_unpinned_hub_id_is_refused_before_any_download(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("went to the network"))
    with pytest.raises(BadInput, match='pin the revision, as in "google-bert/bert-base-uncased@<commit>"'):
        resolve_base(base)


def test_p18_a_pinned_hub_id_fetches_that_revision_and_no_pickle(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tiny_base)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert resolve_base("owner/model@abc123").architecture == "bert"
    assert (asked["name"], asked["revision"]) == ("owner/model", "abc123")
    patterns = asked["allow_patterns"]
    assert not [p for p in patterns if p in {"*", "*.bin", "*.pt", "*.pkl", "*.py"} or p.endswith((".bin", ".py"))]


def test_a_hub_out_of_reach_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(BadInput, match=r"could not be fetched from the hub \(ConnectionError\)"):
        resolve_base("owner/model@abc123")


def test_p18_a_folder_with_pickled_weights_alone_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickled weights are never loaded"):
        resolve_base(str(folder))


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "electra"])
def test_an_unknown_architecture_is_not_yet(tiny_base: Path, tmp_path: Path, architecture: str) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "other")
    (folder / "config.json").write_text(json.dumps({"model_type": architecture}), encoding="utf-8")
    with pytest.raises(NotYet, match=f'architecture "{architecture}" not yet; use one of bert'):
        resolve_base(str(folder))


@pytest.mark.parametrize("config", ["", "{", "[]", "{}", "null"])
def test_a_broken_configuration_is_refused(tiny_base: Path, tmp_path: Path, config: str) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "broken")
    (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(BadInput, match=r"config\.json is not a model configuration"):
        resolve_base(str(folder))


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no config\.json"):
        resolve_base(str(tmp_path))


class TestDigest:
    """The digest names what is computed with, wherever it lies (P18)."""

    def test_p18_equal_content_elsewhere_has_the_same_digest(self, tiny_base: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(tiny_base, tmp_path / "copy")
        assert resolve_base(str(copy)).digest == resolve_base(str(tiny_base)).digest

    @pytest.mark.parametrize(
        "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
    )
    def test_p18_one_changed_byte_of_weights_or_tokenizer_changes_it(
        self, tiny_base: Path, tmp_path: Path, name: str
    ) -> None:
        copy = shutil.copytree(tiny_base, tmp_path / "changed")
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
        assert base_model.BaseModel(copy, "bert").digest != BaseModel(tiny_base, "bert").digest

    @pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "spiece.model", "added_tokens.json"])
    def test_p18_a_further_tokenizer_file_changes_it(self, tiny_base: Path, tmp_path: Path, name: str) -> None:
        copy = shutil.copytree(tiny_base, tmp_path / "more")
        (copy / name).write_text("x", encoding="utf-8")
        assert BaseModel(copy, "bert").digest != BaseModel(tiny_base, "bert").digest

    def test_a_readme_does_not_change_it(self, tiny_base: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(tiny_base, tmp_path / "noted")
        (copy / "README.md").write_text("hello", encoding="utf-8")
        assert BaseModel(copy, "bert").digest == BaseModel(tiny_base, "bert").digest
