"""The model as an ONNX file, in float32 or with 8-bit weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from common.errors import BadInput, RunFailed
from deploy.open_model import OpenModel

__all__ = ["quantize", "write_onnx"]

_OPSET = 18


class _Logits(torch.nn.Module):
    """The network with tensors in and a tensor out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def write_onnx(model: OpenModel, file: Path) -> None:
    """Write ``model`` with inputs ``input_ids`` and ``attention_mask`` of any batch and length.

    Raises:
        BadInput: onnx or onnxscript is not installed.
        RunFailed: torch cannot export this network.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BadInput("onnx: not installed; run: pip install 'hanse[export]'") from error
    # Two texts of unlike length: an example of one text, or without padding, would be taken for the general case.
    sample = model.encode(["one two three four five six", "one two"])
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("tokens", min=2, max=model.longest)}
    with _quiet():
        try:
            torch.onnx.export(
                _Logits(model.network).eval(),
                (sample.ids, sample.mask),
                str(file),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes={"input_ids": axes, "attention_mask": axes},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            kind = model.network.config.model_type
            raise RunFailed(f"torch.onnx cannot export this {kind}: {str(error).splitlines()[0]}") from error


def quantize(source: Path, file: Path) -> None:
    """Write ``source`` with weights of linear layers in 8 bits, activations quantized as they come.

    Raises:
        BadInput: onnxruntime is not installed.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise BadInput("onnxruntime: not installed; run: pip install 'hanse[export]'") from error
    with _quiet():
        quantize_dynamic(source, file, weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' advice: torchvision is not needed, and pre-processing changes nothing here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
