"""The private step against the plain one: ours, Opacus' hooks, Opacus' ghost mode and functorch, interleaved.

``python -m tests.benchmarks.dp_step [--quick] [--json]``. A step is forward and backward pass over a batch of
full length, up to the clipped sum (plain: up to the gradients); noise and optimizer are the same for all and are
left out. Each ratio is the median over rounds in which every way takes one step. Peak memory is that of a
process of its own which takes three steps in one way, less what it holds before the first (Linux).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.model import Classifier, build_classifier
from common.study_file import parse_study
from deploy.default_study import DEFAULT_STUDY

__all__ = ["Cell", "all_cells", "dp_step", "quick_cells", "short_cells"]

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


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


_Step = Callable[[], None]
_Inputs = dict[str, torch.Tensor]


def _plain(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> _Step:
    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        _losses(network(**inputs).logits, labels).mean().backward()

    return step


def _ours(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> _Step:
    from client.clipping import ClippedBackward

    def step() -> None:
        for parameter in parameters:
            parameter.summed_grad = None  # type: ignore[attr-defined]
        clipped = ClippedBackward(network, parameters, 1.0)
        clipped.backward(_losses(clipped(**inputs).logits, labels))
        clipped.cleanup()

    return step


def _hooks(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> _Step:
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


def _ghost(network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor) -> _Step:
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


def _functorch(
    network: Classifier, parameters: list[nn.Parameter], inputs: _Inputs, labels: torch.Tensor
) -> _Step:
    from torch.func import functional_call, grad, vmap

    names = list(network.trainable())

    def loss(own: dict[str, torch.Tensor], row: _Inputs, label: torch.Tensor) -> torch.Tensor:
        logits = functional_call(
            network, own, (), {name: value.unsqueeze(0) for name, value in row.items()}
        ).logits
        return nn.functional.cross_entropy(logits, label.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")

    def step() -> None:
        own = dict(zip(names, (p.detach() for p in parameters), strict=True))
        found = each(own, inputs, labels)
        norms = sum(g.flatten(1).square().sum(1) for g in found.values()).sqrt()  # type: ignore[union-attr]
        factors = (1.0 / norms).clamp(max=1.0)
        for parameter, gradient in zip(parameters, found.values(), strict=True):
            parameter.summed_grad = torch.einsum("b,b...->...", factors, gradient)  # type: ignore[attr-defined]

    return step


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def measure(cell: Cell, rounds: int) -> dict[str, Any]:
    """Seconds and ratios of every way that runs; what the others said."""
    classifier = classifier_of(cell)
    steps: dict[str, _Step] = {}
    broken: dict[str, str] = {}
    with _quiet():
        for way in WAYS:
            try:
                step = step_of(way, classifier, cell)
                step()
                steps[way] = step
            except Exception as error:  # noqa: BLE001  a peer that cannot run this model is a finding
                broken[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
                classifier = classifier_of(cell)  # it may have left hooks behind
                steps = {name: step_of(name, classifier, cell) for name in steps}
        seconds: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(rounds):
            for way, step in steps.items():
                started = time.perf_counter()
                step()
                seconds[way].append(time.perf_counter() - started)
    ratios = {
        way: round(statistics.median(s / p for s, p in zip(each, seconds["plain"], strict=True)), 3)
        for way, each in seconds.items()
        if way != "plain"
    }
    return {**vars(cell), "plain_seconds": round(statistics.median(seconds["plain"]), 4), "ratio": ratios} | (
        {"does_not_run": broken} if broken else {}
    )


def peak_memory(cell: Cell, way: str) -> float:
    """MiB that three steps of a way take at their peak, in this process; call it in one of its own."""
    classifier = classifier_of(cell)
    step = step_of(way, classifier, cell)
    with _quiet():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew from here
        before = _memory_figure("VmRSS")
        for _ in range(3):
            step()
    return round(max(_memory_figure("VmHWM") - before, 0.0), 1)


def _memory_figure(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in status if line.startswith(f"{name}:"))


def _memory_ratio(cell: Cell, way: str) -> float | None:
    found = []
    for one in ("plain", way):
        job = json.dumps({**vars(cell), "way": one})
        ended = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.dp_step", "--memory", job], capture_output=True, text=True
        )
        if ended.returncode:
            return None
        found.append(float(ended.stdout))
    return round(found[1] / found[0], 3) if found[0] > 1 else None  # less than a MiB says nothing


def quick_cells() -> list[Cell]:
    """The embedded model's four modes at one length and batch."""
    return [Cell("minilm", mode, 64, 16) for mode in MODES]


def short_cells() -> list[Cell]:
    """The embedded model at batch 16: every mode at length 64, full fine-tuning at 128."""
    return [*quick_cells(), Cell("minilm", "full", 128, 16)]


def all_cells() -> list[Cell]:
    """Both models, all modes, lengths 64 and 128, batches 16 and 32."""
    return [
        Cell(base, mode, length, batch)
        for base in ("minilm", "bert-base")
        for mode in MODES
        for length in (64, 128)
        for batch in (16, 32)
    ]


def dp_step(cells: list[Cell], memory: bool = True) -> list[dict[str, Any]]:
    """Measure each cell; peak memory at length 64 and batch 16."""
    found = []
    for cell in cells:
        row = measure(cell, 3 if cell.base == "bert-base" else 5)
        if memory and cell.batch == 16 and cell.length == 64:
            row["memory_ratio"] = {way: _memory_ratio(cell, way) for way in ("ours", "opacus hooks")}
        found.append(row)
    return found


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        job = json.loads(arguments.memory)
        way = job.pop("way")
        print(peak_memory(Cell(**job), way))
        return
    rows = dp_step(quick_cells(), memory=False) if arguments.quick else dp_step(all_cells())
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{'model':<10}{'trains':<7}{'length':>7}{'batch':>6}{'plain s':>9}"
        + "".join(f"{w:>14}" for w in WAYS[1:])
    )
    for row in rows:
        figures = "".join(f"{row['ratio'].get(way, '-')!s:>14}" for way in WAYS[1:])
        print(
            f"{row['base']:<10}{row['mode']:<7}{row['length']:>7}{row['batch']:>6}{row['plain_seconds']:>9}{figures}"
        )


if __name__ == "__main__":
    main()
