"""One export from beginning to end: written beside, held against the original, kept only if it agrees."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.errors import RunFailed
from common.examples import Dataset, Example
from common.files import write_json
from common.text import TokenizedTexts, tokenize
from deploy.export.distillation import Distillation, distill
from deploy.export.measure import Agreement, Figures, agreement, figures, logits_of, speeds
from deploy.export.onnx_file import quantize, write_onnx
from deploy.export.runners import OnnxRunner, Runner, TorchRunner
from deploy.open_model import OpenModel

__all__ = [
    "INT8_LEAST_SAME",
    "ONNX_LARGEST_DIFFERENCE",
    "ExportFormat",
    "Exported",
    "export_model",
    "learning_and_scored",
]

ExportFormat = Literal["onnx", "int8", "distilled"]

ONNX_LARGEST_DIFFERENCE = 1e-3
"""Of any logit, between the original and its ONNX form."""
INT8_LEAST_SAME = 0.95
"""Share of texts on which the 8-bit form must answer as the original."""
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Exported:
    """What was written, beside the original."""

    format: ExportFormat
    original: Figures
    exported: Figures
    agreement: Agreement
    tolerance: str
    """What the agreement had to meet, in words."""
    epochs: tuple[float, ...] = field(default=())
    """Mean distillation loss of each epoch."""

    @property
    def speed_ratio(self) -> float:
        """How many times faster one text is answered."""
        return self.original.speed.milliseconds_per_text / self.exported.speed.milliseconds_per_text

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "format": self.format,
            "original": self.original.to_json(),
            "exported": self.exported.to_json(),
            "agreement": self.agreement.to_json(),
            "tolerance": self.tolerance,
            "speed_ratio_one_text": self.speed_ratio,
            "speed_ratio_batches": self.exported.speed.texts_per_second / self.original.speed.texts_per_second,
            "size_ratio": self.original.bytes / self.exported.bytes,
            "distillation_losses": list(self.epochs),
        }


def learning_and_scored(dataset: Dataset, seed: int, most: int) -> tuple[Sequence[Example], Sequence[Example]]:
    """Texts to distil on and at most ``most`` to score on: the test part, else a fifth drawn under the seed."""
    if dataset.test:
        chosen = np.random.default_rng(seed).permutation(len(dataset.test))[:most]
        return dataset.examples, [dataset.test[row] for row in np.sort(chosen)]
    order = np.random.default_rng(seed).permutation(len(dataset.examples))
    held = max(1, round(_HELD_OUT * len(order)))
    drawn = [dataset.examples[row] for row in order]
    return drawn[held:], drawn[: min(held, most)]


def export_model(
    model: OpenModel,
    source: Path,
    out: Path,
    data: tuple[Sequence[Example], Sequence[Example]],
    plan: tuple[ExportFormat, Distillation],
) -> Exported:
    """Write ``model`` in another form to the folder ``out``, with ``export.json`` of both forms' figures.

    Args:
        model: on the CPU.
        source: its folder.
        out: is made, or its files of the same name replaced.
        data: public texts to distil on, and labelled ones to score on.
        plan: the form, and how a student learns.

    Raises:
        RunFailed: the form does not agree with the original; nothing is written.
    """
    learning, scored = data
    kind, distillation = plan
    texts = _tokenized(model, scored)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name)
        epochs: list[float] = []
        original: Runner = TorchRunner(model.network)
        runner = _write(model, folder, kind, (_tokenized(model, learning), distillation, epochs))
        model.tokenizer.save_pretrained(str(folder))
        own, other = logits_of(original, texts), logits_of(runner, texts)
        agrees = agreement(own, other)
        tolerance = _checked(kind, agrees)
        labels = [example.label for example in scored]
        times = speeds([original, runner], texts)
        result = Exported(
            kind,
            figures(own, labels, _weights(source), times[0]),
            figures(other, labels, _weights(folder), times[1]),
            agrees,
            tolerance,
            tuple(epochs),
        )
        write_json(folder / "export.json", result.to_json())
        out.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir()):
            shutil.move(file, out / file.name)
    return result


def _write(
    model: OpenModel, folder: Path, kind: ExportFormat, learning: tuple[TokenizedTexts, Distillation, list[float]]
) -> Runner:
    texts, distillation, epochs = learning
    if kind == "distilled":
        keep: Callable[[int, float], None] = lambda _, loss: epochs.append(loss)  # noqa: E731
        student = distill(model.network, texts, distillation, keep)
        student.save_pretrained(folder, safe_serialization=True)
        return TorchRunner(student)
    model.network.config.save_pretrained(folder)
    write_onnx(model, folder / "model.onnx")
    if kind == "onnx":
        return OnnxRunner(folder / "model.onnx")
    quantize(folder / "model.onnx", folder / "model_int8.onnx")
    (folder / "model.onnx").unlink()
    return OnnxRunner(folder / "model_int8.onnx")


def _checked(kind: ExportFormat, agrees: Agreement) -> str:
    """The tolerance in words; raises :class:`RunFailed` where it is not met."""
    if kind == "onnx":
        tolerance = f"every logit within {ONNX_LARGEST_DIFFERENCE:g} of the original's"
        met = agrees.largest_logit_difference <= ONNX_LARGEST_DIFFERENCE
        found = f"a logit differs by {agrees.largest_logit_difference:.2g}"
    elif kind == "int8":
        tolerance = f"the same answer on at least {INT8_LEAST_SAME:.0%} of texts"
        met = agrees.same_label >= INT8_LEAST_SAME
        found = f"only {agrees.same_label:.1%} of texts are answered alike"
    else:
        return "none: a student may answer otherwise; its own scores are given"
    if not met:
        raise RunFailed(f"--format {kind}: {found}, but must be: {tolerance}; nothing was written")
    return tolerance


def _tokenized(model: OpenModel, examples: Sequence[Example]) -> TokenizedTexts:
    texts, labels = [example.text for example in examples], [example.label for example in examples]
    return tokenize(model.tokenizer, texts, labels, model.longest)


def _weights(folder: Path) -> int:
    """Bytes of the files that hold weights."""
    return sum(file.stat().st_size for kind in ("*.safetensors", "*.onnx") for file in folder.glob(kind))
