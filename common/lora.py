"""Low-rank adapters (Hu et al. 2021) through PEFT: where they go, and how they are folded in at the end."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from common.study import ModelSection

__all__ = ["add_lora", "merge_lora"]

_BERT_LINEARS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
_LORA_TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "bert": {"value": ("value",), "attention": ("query", "value"), "all": _BERT_LINEARS},
    "roberta": {"value": ("value",), "attention": ("query", "value"), "all": _BERT_LINEARS},
    "distilbert": {
        "value": ("v_lin",),
        "attention": ("q_lin", "v_lin"),
        "all": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    },
    "deberta-v2": {
        "value": ("value_proj",),
        "attention": ("query_proj", "value_proj"),
        "all": ("query_proj", "key_proj", "value_proj", *_BERT_LINEARS[3:]),
    },
    # ModernBERT has one matrix for query, key and value.
    "modernbert": {"value": ("Wqkv",), "attention": ("Wqkv",), "all": ("Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")},
}


def add_lora(network: Any, section: ModelSection, architecture: str) -> None:
    """Put adapters into the encoder of ``network``, in place; they change nothing until they are trained."""
    from peft import LoraConfig, inject_adapter_in_model

    names = _targets(architecture, section.lora_targets)
    encoder = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(network.base_model_prefix + ".")
        and "pooler" not in name
        and name.endswith(names)
    ]
    config = LoraConfig(
        r=section.lora_rank,
        lora_alpha=section.lora_alpha,
        target_modules=encoder,
        lora_dropout=0.0,
        bias="none",
    )
    inject_adapter_in_model(config, network)


def _targets(architecture: str, wanted: str) -> tuple[str, ...]:
    """Ends of the names of the linear layers that get adapters."""
    if wanted != "without-query-key":
        return _LORA_TARGETS[architecture][wanted]
    queries_and_keys = ("query", "key", "q_lin", "k_lin", "query_proj", "key_proj")
    return tuple(name for name in _LORA_TARGETS[architecture]["all"] if name not in queries_and_keys)


def merge_lora(network: Any) -> Any:
    """Fold trained adapters into the matrices they adapt, in place, leaving a stock network."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            layer = cast(Any, module)
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config  # or saving would write an adapter
    return network
