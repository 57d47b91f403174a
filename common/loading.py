"""Networks from folders in Hugging Face format: safetensors alone, no remote code (PRIVACY P18)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import BadInput
from common.study import TaskKind

__all__ = ["SavedNetwork", "load_network", "load_saved_network", "one_load_at_a_time", "quiet_transformers"]

one_load_at_a_time = threading.RLock()
"""transformers 5 replaces ``PreTrainedModel.tie_weights`` for the whole process while it loads: two threads that
load at once could leave it replaced for good, and tied weights without values."""

_KINDS: dict[str, TaskKind] = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "masked-language-modeling",
}


@dataclass(frozen=True)
class SavedNetwork:
    """A trained network as it lies in a folder."""

    network: Any
    """transformers' own model of its task, in evaluation mode."""
    kind: TaskKind
    labels: list[str]
    """In the order of the logits; empty for a masked language model."""


def load_network(path: Path, config: Any, kind: TaskKind) -> Any:
    """The network of ``kind`` in a folder; parts that the folder lacks are new.

    Raises:
        BadInput: its weights are damaged or of another shape than its configuration says.
    """
    import transformers
    from safetensors import SafetensorError

    loaders = {
        "sequence-classification": transformers.AutoModelForSequenceClassification,
        "token-classification": transformers.AutoModelForTokenClassification,
        "masked-language-modeling": transformers.AutoModelForMaskedLM,
    }
    try:
        with one_load_at_a_time:
            return loaders[kind].from_pretrained(
                str(path),
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except (SafetensorError, RuntimeError) as error:  # damaged, or of another shape than config.json says
        raise BadInput(f"{path}: its weights cannot be loaded; get the folder again") from error


def load_saved_network(path: Path) -> SavedNetwork:
    """Load a trained network from a folder, for the task that its configuration names.

    Raises:
        BadInput: the folder does not hold one.
    """
    from transformers import AutoConfig

    if not path.is_dir():
        raise BadInput(f"{path}: no such model folder")
    if not any(path.glob("*.safetensors")):
        raise BadInput(f"{path}: holds no *.safetensors; give the model/ folder of a run")
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
            kind = _kind(config)
            network = load_network(path, config, kind)
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(f"{path}: is not a model folder in Hugging Face format ({error})") from error
    labels = [] if kind == "masked-language-modeling" else [config.id2label[i] for i in range(config.num_labels)]
    return SavedNetwork(network.eval(), kind, labels)


def _kind(config: Any) -> TaskKind:
    """The task of a configuration; one that names none is read as a classifier of texts."""
    name = next(iter(getattr(config, "architectures", None) or [""]), "")
    return next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), "sequence-classification")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the context transformers says nothing of heads that are new: training them is what we are doing."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
