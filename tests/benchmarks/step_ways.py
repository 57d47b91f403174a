"""One step of DP fine-tuning in several ways over the same model and batch: ours, and what others offer.

A step is forward and backward pass over a batch of full length, up to the clipped sum (plain: up to the
gradients); noise and optimizer are the same for all and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from common.model import Classifier, build_classifier
from common.study_file import parse_study
from deploy.default_study import DEFAULT_STUDY

__all__ = ["MODES", "WAYS", "Cell", "Step", "classifier_of", "left_out", "step_of"]

WAYS = ("plain", "ours", "opacus hooks", "opacus ghost", "functorch")
MODES = ("full", "lora", "bias", "head")


@dataclass(frozen=True)
class Cell:
    """One combination that is measured."""

    base: str
    """``minilm`` (embedded weights) or ``bert-base`` (its shape, random weights)."""
    mode: str
    length: int
    batch: int

    def small(self) -> Cell:
        """The same with two rows, to try a way at little cost."""
        return replace(self, batch=2)


def classifier_of(cell: Cell) -> Classifier:
    """The model of a cell, dropout off, so that all ways compute the same."""
    overrides = [f"model.trainable={cell.mode}", "training.precision=float32", "model.lora_targets=attention"]
    if cell.base == "bert-base":
        overrides.append(f"model.base={_bert_base()}")
    return build_classifier(parse_study(DEFAULT_STUDY, "benchmark", overrides)).train()


def _bert_base() -> str:
    """A folder with a randomly initialised BERT of the base shape (12 layers, 768 wide) and a small vocabulary."""
    import tempfile

    from transformers import BertConfig, BertModel

    from common.base_model import resolve_base

    folder = Path(tempfile.gettempdir()) / "hanse-benchmark-bert-base"
    if not (folder / "model.safetensors").exists():
        model = BertModel(BertConfig(vocab_size=30522))
        model.save_pretrained(folder, safe_serialization=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            source = resolve_base("minilm-l6").path / name
            if source.exists():
                (folder / name).write_bytes(source.read_bytes())
    return str(folder)


def step_of(way: str, classifier: Classifier, cell: Cell) -> Callable[[], None]:
    """One step of a way over a fixed random batch."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1000, 20000, (cell.batch, cell.length), generator=generator)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    labels = torch.randint(0, 2, (cell.batch,), generator=generator)
    parameters = list(classifier.trainable().values())
    makers = {
        "plain": _plain,
        "ours": _ours,
        "opacus hooks": _hooks,
        "opacus ghost": _ghost,
        "functorch": _functorch,
    }
    return makers[way](classifier, parameters, inputs, labels)


def left_out(cell: Cell, way: str) -> str:
    """Why a way is not measured in a cell; empty if it is."""
    if cell.base == "minilm" or way in {"plain", "ours", "opacus ghost"}:
        return ""
    if cell.mode == "full" and cell.batch > 16:
        return "gradients by row of 32 x 110 million parameters are 14 GB"
    if way == "functorch" and (cell.length, cell.batch) != (64, 16):
        return "measured at length 64 and batch 16 only"
    return ""


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


Step = Callable[[], None]
_Inputs = dict[str, torch.Tensor]


def _plain(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> Step:
    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        _losses(network(**inputs).logits, labels).mean().backward()

    return step


def _ours(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> Step:
    from client.clipping import ClippedBackward

    def step() -> None:
        for parameter in parameters:
            parameter.summed_grad = None  # type: ignore[attr-defined]
        clipped = ClippedBackward(network, parameters, 1.0)
        clipped.backward(_losses(clipped(**inputs).logits, labels))
        clipped.cleanup()

    return step


def _hooks(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> Step:
    from opacus.grad_sample import GradSampleModule

    def step() -> None:
        wrapped = GradSampleModule(network, loss_reduction="sum", strict=False)
        _losses(wrapped(**inputs).logits, labels).sum().backward()
        norms = sum(p.grad_sample.flatten(1).square().sum(1) for p in parameters).sqrt()  # type: ignore[union-attr]
        factors = (1.0 / norms).clamp(max=1.0)
        for parameter in parameters:
            parameter.summed_grad = torch.einsum("b,b...->...", factors, parameter.grad_sample)  # type: ignore[attr-defined]
            parameter.grad_sample = parameter.grad = None  # type: ignore[attr-defined]
        wrapped.cleanup()

    return step


def _ghost(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> Step:
    """Opacus' fast gradient clipping: norms in one backward pass, the clipped sum in a second."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    def step() -> None:
        wrapped = GradSampleModuleFastGradientClipping(
            network, loss_reduction="sum", strict=False, max_grad_norm=1.0, use_ghost_clipping=True
        )
        losses = _losses(wrapped(**inputs).logits, labels)
        losses.sum().backward(retain_graph=True)
        factors = wrapped.get_clipping_coef()
        for parameter in parameters:
            parameter.grad = None
        wrapped.disable_hooks()
        (factors * losses).sum().backward()
        wrapped.cleanup()

    return step


def _functorch(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> Step:
    """Per-example gradients by ``vmap(grad)``.

    The mask stays outside of it, one for all rows, which are of full length here: transformers asks whether it
    hides anything, and a decision on values is nothing that vmap can do.
    """
    from torch.func import functional_call, grad, vmap

    names = list(network.trainable())
    mask = inputs["attention_mask"][:1]

    def loss(own: dict[str, torch.Tensor], tokens: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        given = {"input_ids": tokens.unsqueeze(0), "attention_mask": mask}
        logits = functional_call(network, own, (), given).logits
        return nn.functional.cross_entropy(logits, label.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")

    def step() -> None:
        own = dict(zip(names, (p.detach() for p in parameters), strict=True))
        found = each(own, inputs["input_ids"], labels)
        norms = sum(g.flatten(1).square().sum(1) for g in found.values()).sqrt()  # type: ignore[union-attr]
        factors = (1.0 / norms).clamp(max=1.0)
        for parameter, gradient in zip(parameters, found.values(), strict=True):
            parameter.summed_grad = torch.einsum("b,b...->...", factors, gradient)  # type: ignore[attr-defined]

    return step
