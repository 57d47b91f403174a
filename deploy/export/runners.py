"""Ways to run a model on the CPU behind one call: token ids and mask in, logits out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput

__all__ = ["OnnxRunner", "Runner", "TorchRunner"]


class Runner(Protocol):
    """A model that can be asked."""

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits ``(texts, labels)`` of padded token ids and their mask, each ``(texts, tokens)``."""


class TorchRunner:
    """A network in torch."""

    def __init__(self, network: Any) -> None:
        """Take ``network``, which must be on the CPU."""
        self._network = network.eval()

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of a padded batch."""
        with torch.inference_mode():
            logits = self._network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        return np.asarray(logits.float().numpy())


class OnnxRunner:
    """An ONNX file in onnxruntime, with as many threads as torch has."""

    def __init__(self, file: Path) -> None:
        """Load ``file``; raises :class:`BadInput` where onnxruntime is not installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise BadInput("onnxruntime: not installed; run: pip install 'hanse[export]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of a padded batch."""
        (logits,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, dtype=np.float32)
