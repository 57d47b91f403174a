"""BERT for a task: built from a pretrained base, with what trains marked, saved as anyone can load it.

A :class:`Classifier` is an encoder and a head. The head is every parameter outside the encoder; it can be run
alone on features computed once (:meth:`Classifier.features`, :meth:`Classifier.classify`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from common.base_model import BaseModel, resolve_base
from common.errors import BadInput, NotYet
from common.lora import add_lora, merge_lora
from common.pooling import bert_with_uniform_layer, mean_over_tokens, normalised_mean
from common.study import Study
from common.weights import Weights

__all__ = ["Classifier", "Logits", "build_classifier", "load_saved_classifier"]

_DROPOUT_KEYS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout", "attention_dropout",
    "seq_classif_dropout", "pooler_dropout", "embedding_dropout", "mlp_dropout",
)  # fmt: skip


@dataclass(frozen=True)
class Logits:
    """Output of a classifier."""

    logits: torch.Tensor
    """``(batch, labels)``, float32."""


class Classifier(nn.Module):
    """A BERT with a classification head, split where the head begins."""

    def __init__(self, network: Any, architecture: str, pooling: str) -> None:
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.initial: Weights = {}
        """The trainable parameters as they were built."""
        self.pooling = pooling
        prefix = f"{network.base_model_prefix}."
        self._head_names = frozenset(
            f"network.{name}" for name, _ in network.named_parameters() if not name.startswith(prefix)
        )

    def forward(self, **inputs: torch.Tensor) -> Logits:
        """Logits of a padded batch (``input_ids`` and ``attention_mask``, each ``(batch, tokens)``)."""
        return Logits(self.classify(self.features(**inputs)))

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the head sees of each text: ``(batch, width)``, float32."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.architecture in {"bert", "distilbert", "deberta-v2"}:
            # Broadcast positions reach the embedding as a batch of one and break per-example gradients.
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
            inputs["position_ids"] = positions.expand(input_ids.shape).contiguous()
        if self.architecture in {"bert", "deberta-v2"}:
            inputs["token_type_ids"] = torch.zeros_like(input_ids)
        output = self.network.base_model(**inputs)
        hidden = output.last_hidden_state
        if self.architecture == "bert":
            pooled = output.pooler_output if self.pooling == "cls" else normalised_mean(hidden, attention_mask)
        else:
            pooled = hidden[:, 0] if self.pooling == "cls" else mean_over_tokens(hidden, attention_mask)
        return pooled.float()

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, labels)`` of features ``(batch, width)``."""
        return _HEADS[self.architecture](self.network, features).float()

    def trainable(self, head_only: bool = False) -> dict[str, nn.Parameter]:
        """The parameters that train, by name, in a fixed order; only the head's with ``head_only``."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and (not head_only or name in self._head_names)
        }

    def is_head(self, name: str) -> bool:
        """Whether the parameter called ``name`` belongs to the head."""
        return name in self._head_names

    def weights(self, head_only: bool = False) -> Weights:
        """A copy of the trainable parameters."""
        return {
            name: parameter.detach().float().cpu().numpy().copy()
            for name, parameter in self.trainable(head_only).items()
        }

    def place(self, device: torch.device) -> Classifier:
        """Move to ``device`` and choose the attention that is fastest there; returns itself."""
        if device.type == "cpu":
            # torch's fused attention has no fast bfloat16 path on CPUs; plain products take half the time.
            self.network.set_attn_implementation("eager")
        return self.to(device)

    def load(self, weights: Weights) -> None:
        """Set trainable parameters; raises :class:`BadInput` on an unknown name or another shape."""
        trainable = self.trainable()
        with torch.no_grad():
            for name, value in weights.items():
                parameter = trainable.get(name)
                if parameter is None or tuple(parameter.shape) != value.shape:
                    raise BadInput(f"weights: {name} with shape {value.shape}: not a trainable parameter here")
                parameter.copy_(torch.from_numpy(value))

    def save(self, directory: Path) -> None:
        """Write the model in Hugging Face format, LoRA merged, safetensors, loadable without Hanse."""
        network = copy.deepcopy(self.network).cpu().eval()
        for parameter in network.parameters():
            parameter.grad = None
        if any("lora_" in name for name, _ in network.named_parameters()):
            network = merge_lora(network)
        if self.architecture == "bert" and self.pooling == "mean":
            network = bert_with_uniform_layer(network)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        with _quiet_transformers():
            network.save_pretrained(directory, safe_serialization=True)


def build_classifier(study: Study, base: BaseModel | None = None) -> Classifier:
    """Build the study's model: the same initial weights for the same study, wherever it is built.

    Raises:
        BadInput: no usable base, or one that is not a BERT with a sequence classification head.
        NotYet: pooling by the mean for an architecture that cannot export it.
    """
    base = base or resolve_base(study.model.base)
    if study.model.pooling == "mean" and base.architecture not in {"bert", "modernbert"}:
        raise NotYet(
            f'model.pooling = "mean": not yet for {base.architecture}, whose exported model would pool '
            'otherwise; use "cls"'
        )
    with _seeded(study.study.seed), _quiet_transformers():
        network = _load_network(base.path, _configuration(study, base))
        _zero_last_layer(network, base.architecture)
        if study.model.trainable == "lora":
            add_lora(network, study.model, base.architecture)
    classifier = Classifier(network, base.architecture, study.model.pooling)
    _mark_trainable(classifier, study.model.trainable)
    classifier.initial = classifier.weights()
    return classifier


def load_saved_classifier(path: Path) -> tuple[Any, list[str]]:
    """Load a sequence classifier in Hugging Face format from a folder: the network and its labels.

    Raises:
        BadInput: the folder does not hold one.
    """
    from transformers import AutoConfig

    if not path.is_dir():
        raise BadInput(f"{path}: no such model folder")
    if not any(path.glob("*.safetensors")):
        raise BadInput(f"{path}: holds no *.safetensors; give the model/ folder of a run")
    with _quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
            network = _load_network(path, config)
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(f"{path}: is not a model folder in Hugging Face format ({error})") from error
    return network.eval(), [config.id2label[index] for index in range(config.num_labels)]


def _configuration(study: Study, base: BaseModel) -> Any:
    from transformers import AutoConfig

    labels = study.task.labels
    config = AutoConfig.from_pretrained(
        str(base.path),
        local_files_only=True,
        trust_remote_code=False,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    config.problem_type = "single_label_classification"
    for key in _DROPOUT_KEYS:
        if getattr(config, key, None) is not None:
            setattr(config, key, study.training.dropout)
    if base.architecture == "modernbert":
        config.classifier_pooling = study.model.pooling
    model = study.model
    separable = model.trainable == "head" or (model.trainable, model.lora_targets) == ("lora", "value")
    if study.privacy.enabled and not separable and getattr(config, "relative_attention", False):
        # Query and key also project one table of positions: everybody's gradient would fall to the first example.
        raise NotYet(
            f'model.trainable = "{model.trainable}": not yet for a {base.architecture} with relative attention, '
            'whose gradients do not separate by example; use "head", or "lora" with lora_targets = "value"'
        )
    if study.task.max_length > (longest := int(getattr(config, "max_position_embeddings", 1 << 30))):
        raise BadInput(f"task.max_length = {study.task.max_length}: the base model reads at most {longest} tokens")
    return config


def _load_network(path: Path, config: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    try:
        return AutoModelForSequenceClassification.from_pretrained(
            str(path),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
    except (SafetensorError, RuntimeError) as error:  # damaged, or of another shape than config.json says
        raise BadInput(f"{path}: its weights cannot be loaded; get the folder again") from error


def _zero_last_layer(network: Any, architecture: str) -> None:
    # From zero the head starts undecided; from random weights it spends its first noisy steps unlearning them.
    last = network.classifier.out_proj if architecture == "roberta" else network.classifier
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _mark_trainable(classifier: Classifier, trainable: str) -> None:
    frozen_pooler = classifier.architecture == "bert" and classifier.pooling == "mean"
    for name, parameter in classifier.named_parameters():
        in_encoder = not classifier.is_head(name)
        if in_encoder and frozen_pooler and ".pooler." in name:
            parameter.requires_grad_(False)  # mean pooling does not pass through it
        elif in_encoder:
            parameter.requires_grad_(
                trainable == "full"
                or (trainable == "bias" and name.endswith(".bias"))
                or (trainable == "lora" and ".lora_" in name)
            )
        else:
            parameter.requires_grad_(True)


def _distilbert_head(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.dropout(torch.relu(network.pre_classifier(features)))))


def _deberta_head(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.dropout(network.pooler(features.unsqueeze(1)))))


_HEADS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "bert": lambda network, features: network.classifier(network.dropout(features)),
    "roberta": lambda network, features: network.classifier(features.unsqueeze(1)),
    "distilbert": _distilbert_head,
    "deberta-v2": _deberta_head,
    "modernbert": lambda network, features: network.classifier(network.drop(network.head(features))),
}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    # The head is always new: the library's advice to train the model before use is what we are doing.
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
