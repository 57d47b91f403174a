"""Where the pretrained BERT comes from: embedded, a pinned hub revision, or a local folder.

Only safetensors weights are read, never pickle, and no remote code runs (PRIVACY P18).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.assets import embedded_model_path
from common.errors import BadInput, NotYet

__all__ = ["EMBEDDED_BASE", "SUPPORTED_ARCHITECTURES", "BaseModel", "resolve_base"]

EMBEDDED_BASE = "minilm-l6"
SUPPORTED_ARCHITECTURES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert")
_HUB_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "tokenizer*",
    "vocab*",
    "*.model",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
]


@dataclass(frozen=True)
class BaseModel:
    """A pretrained model on disk, found and checked."""

    path: Path
    architecture: str
    """transformers' ``model_type``."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over weights, configuration and tokenizer; part of the study's digest."""
        return _folder_digest(self.path)


def resolve_base(base: str) -> BaseModel:
    """Find the pretrained model that ``[model] base`` names, fetching a hub revision if need be.

    Raises:
        BadInput: nothing usable there: no such folder, no revision, no safetensors, broken config.
        NotYet: an architecture outside :data:`SUPPORTED_ARCHITECTURES`.
    """
    if base == EMBEDDED_BASE:
        path = embedded_model_path()
    elif Path(base).expanduser().is_dir():
        path = Path(base).expanduser().resolve()
    elif base.startswith((".", "/", "~")):
        raise BadInput(f'model.base = "{base}": no such folder')
    else:
        path = _hub_snapshot(base)
    return BaseModel(path=path, architecture=_architecture(path, base))


def _hub_snapshot(base: str) -> Path:
    name, at, revision = base.partition("@")
    if "/" not in name:
        raise BadInput(
            f'model.base = "{base}": neither "{EMBEDDED_BASE}", nor a folder, nor a hub id (owner/name@revision)'
        )
    if not at or not revision:
        raise BadInput(f'model.base = "{base}": pin the revision, as in "{name}@<commit>"')
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise BadInput(
            f'model.base = "{base}": could not be fetched from the hub ({type(error).__name__}); '
            "check name, revision and network, or give a local folder"
        ) from error


def _architecture(path: Path, base: str) -> str:
    where = f'model.base = "{base}"'
    config_file = path / "config.json"
    if not config_file.is_file():
        raise BadInput(f"{where}: the folder has no config.json; give a folder in Hugging Face format")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        architecture = str(config["model_type"])
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{where}: config.json is not a model configuration with a model_type") from None
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise NotYet(
            f'{where}: architecture "{architecture}" not yet; use one of {", ".join(SUPPORTED_ARCHITECTURES)}'
        )
    if not any(path.glob("*.safetensors")):
        raise BadInput(f"{where}: holds no *.safetensors; pickled weights are never loaded, convert them first")
    return architecture


@lru_cache(maxsize=8)
def _folder_digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix in {".safetensors", ".json", ".txt", ".model"} and file.is_file():
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
