"""BERT for a task: built from a pretrained base, with what trains marked, saved as anyone can load it.

A :class:`Classifier` is an encoder and a head. The head is every parameter outside the encoder; it can be run
alone on features computed once (:meth:`Classifier.features`, :meth:`Classifier.classify`). It answers for each
text, or for single tokens of each text: tags of words, or the tokens that a mask hides.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.base_model import BaseModel, resolve_base
from common.errors import BadInput, NotYet
from common.heads import head_of, tied_parameters, zero_last_layer
from common.loading import load_network, load_saved_network, quiet_transformers
from common.lora import add_lora, merge_lora
from common.pooling import bert_with_uniform_layer, mean_over_tokens, normalised_mean
from common.study import Study, TaskKind
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
    """``(batch, labels)``, or ``(batch, labelled tokens, labels)``, float32."""


class WordDropout(nn.Dropout):
    """In training hides each token but the first with chance ``p``, independently of every other."""

    def forward(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """The mask ``(batch, tokens)`` with hidden tokens at 0; as it came in evaluation."""
        if not self.training or self.p == 0:
            return attention_mask
        kept = torch.rand(attention_mask.shape, device=attention_mask.device) >= self.p
        kept[:, 0] = True
        return attention_mask * kept


class Classifier(nn.Module):
    """A BERT with the head of a task, split where the head begins."""

    def __init__(
        self, network: Any, architecture: str, pooling: str, kind: TaskKind = "sequence-classification"
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self._head = head_of(kind, architecture)
        self.architecture = architecture
        self.initial: Weights = {}
        """The trainable parameters as they were built."""
        self.pooling = pooling
        self.word_dropout = WordDropout(0.0)
        prefix = f"{network.base_model_prefix}."
        self._head_names = frozenset(
            f"network.{name}" for name, _ in network.named_parameters() if not name.startswith(prefix)
        )

    def forward(self, **inputs: torch.Tensor) -> Logits:
        """Logits of a padded batch (``input_ids`` and ``attention_mask``, each ``(batch, tokens)``).

        Where tokens have labels, ``positions`` ``(batch, labelled)`` says which.
        """
        return Logits(self.classify(self.features(**inputs)))

    def features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the head sees of each text, ``(batch, width)``, or of its tokens, ``(batch, labelled, width)``.

        float32. Without ``positions`` every token is one that is labelled, where tokens are.
        """
        attention_mask = self.word_dropout(attention_mask)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.architecture in {"bert", "distilbert", "deberta-v2"}:
            # Broadcast positions reach the embedding as a batch of one and break per-example gradients.
            order = torch.arange(input_ids.shape[1], device=input_ids.device)
            inputs["position_ids"] = order.expand(input_ids.shape).contiguous()
        if self.architecture in {"bert", "deberta-v2"}:
            inputs["token_type_ids"] = torch.zeros_like(input_ids)
        output = self.network.base_model(**inputs)
        hidden: torch.Tensor = output.last_hidden_state
        if self.kind != "sequence-classification":
            if positions is not None:
                hidden = hidden.gather(1, positions.unsqueeze(2).expand(-1, -1, hidden.shape[2]))
            return hidden.float()
        if self.architecture == "bert":
            pooled = output.pooler_output if self.pooling == "cls" else normalised_mean(hidden, attention_mask)
        else:
            pooled = hidden[:, 0] if self.pooling == "cls" else mean_over_tokens(hidden, attention_mask)
        return pooled.float()

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, ..., labels)`` of features ``(batch, ..., width)``."""
        return self._head(self.network, features).float()

    @property
    def pools_by_mean(self) -> bool:
        """Whether the head sees the mean over a text's tokens."""
        return self.kind == "sequence-classification" and self.pooling == "mean"

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
        if self.pools_by_mean and self.architecture == "bert":
            network = bert_with_uniform_layer(network)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        with quiet_transformers():
            network.save_pretrained(directory, safe_serialization=True)


def build_classifier(study: Study, base: BaseModel | None = None) -> Classifier:
    """Build the study's model: the same initial weights for the same study, wherever it is built.

    Raises:
        BadInput: no usable base, or one that is not a BERT with a head for the task.
        NotYet: pooling by the mean, or a task, for an architecture that does not have it here.
    """
    base, kind = base or resolve_base(study.model.base), study.task.kind
    head_of(kind, base.architecture)
    pooled = kind == "sequence-classification"
    if pooled and study.model.pooling == "mean" and base.architecture not in {"bert", "modernbert"}:
        raise NotYet(
            f'model.pooling = "mean": not yet for {base.architecture}, whose exported model would pool '
            'otherwise; use "cls"'
        )
    with _seeded(study.study.seed), quiet_transformers():
        network = load_network(base.path, _configuration(study, base), kind)
        zero_last_layer(network, kind, base.architecture)
        if study.model.trainable == "lora":
            add_lora(network, study.model, base.architecture)
    classifier = Classifier(network, base.architecture, study.model.pooling, kind)
    classifier.word_dropout.p = study.training.word_dropout
    _mark_trainable(classifier, study.model.trainable)
    classifier.initial = classifier.weights()
    return classifier


def load_saved_classifier(path: Path) -> tuple[Any, list[str]]:
    """Load a classifier of texts in Hugging Face format from a folder: the network and its labels.

    Raises:
        BadInput: the folder does not hold one.
    """
    saved = load_saved_network(path)
    if saved.kind != "sequence-classification":
        raise BadInput(f"{path}: is a model for {saved.kind}; this needs one for sequence-classification")
    return saved.network, saved.labels


def _configuration(study: Study, base: BaseModel) -> Any:
    from transformers import AutoConfig

    labels = study.task.labels
    named: dict[str, Any] = {}
    if labels:
        named = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    config = AutoConfig.from_pretrained(str(base.path), local_files_only=True, trust_remote_code=False, **named)
    if study.task.kind == "sequence-classification":
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


def _mark_trainable(classifier: Classifier, trainable: str) -> None:
    frozen_pooler = classifier.architecture == "bert" and classifier.pools_by_mean
    tied = {id(parameter) for parameter in tied_parameters(classifier.network, classifier.kind)}
    for name, parameter in classifier.named_parameters():
        in_encoder = not classifier.is_head(name)
        if id(parameter) in tied:
            parameter.requires_grad_(False)
        elif in_encoder and frozen_pooler and ".pooler." in name:
            parameter.requires_grad_(False)  # mean pooling does not pass through it
        elif in_encoder:
            parameter.requires_grad_(
                trainable == "full"
                or (trainable == "bias" and name.endswith(".bias"))
                or (trainable == "lora" and ".lora_" in name)
            )
        else:
            parameter.requires_grad_(True)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
