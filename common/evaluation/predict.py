"""One forward pass over a set of examples; everything that is scored comes from its logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from common.errors import BadInput, RunFailed

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["IndexedBatch", "Precision", "predict_logits"]

Precision = Literal["float32", "bfloat16"]
"""What the forward pass computes in; bfloat16 is torch's autocast and leaves the weights as they are."""


class IndexedBatch(Protocol):
    """Some examples, ready for the model, that know which rows they are."""

    @property
    def indexes(self) -> NDArray[np.integer]:
        """Row of each example in the set, from 0, ``(batch,)``."""

    @property
    def inputs(self) -> Mapping[str, torch.Tensor]:
        """The model's arguments by name, each ``(batch, ...)``, without labels."""


def predict_logits(
    model: torch.nn.Module,
    batches: Iterable[IndexedBatch],
    device: torch.device | str,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """Return the logits ``(examples, labels)`` of every row, in row order, whatever the batches' order.

    ``model``, already on ``device``, is called as ``model(**inputs)`` and answers with an object that
    has ``.logits`` ``(batch, labels)``.  It runs in evaluation mode (no dropout), without gradients,
    and every module's mode is as before afterwards, also after an error.

    Raises `BadInput` unless the batches hold each row from 0 exactly once, and `RunFailed` when the
    model answers with another shape.  NaN passes through: `ScoreCounts.of` reports it.
    """
    import torch

    if precision not in ("float32", "bfloat16"):
        raise BadInput(f"precision = {precision!r}: must be float32 or bfloat16")
    place = torch.device(device)
    indexes: list[NDArray[np.integer]] = []
    outputs: list[torch.Tensor] = []
    autocast = torch.autocast(place.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with _evaluation_mode(model), torch.inference_mode(), autocast:
        for batch in batches:
            inputs = {name: value.to(place, non_blocking=True) for name, value in batch.inputs.items()}
            logits: torch.Tensor = model(**inputs).logits
            if logits.ndim != 2 or len(logits) != len(batch.indexes):
                raise RunFailed(
                    f"model output: logits of shape {tuple(logits.shape)} for {len(batch.indexes)} "
                    f"examples: must be ({len(batch.indexes)}, labels)"
                )
            indexes.append(batch.indexes)
            outputs.append(logits.float())
        if not outputs:
            raise BadInput("there are no examples to predict; give at least 1")
        # Copied off the device once, at the end: a copy per batch would make the device wait.
        unordered: NDArray[np.float32] = torch.cat(outputs).cpu().numpy()
    return unordered[_positions(np.concatenate(indexes))]


def _positions(rows: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return where each row from 0 stands in ``rows``, which must be a permutation."""
    positions = np.argsort(rows, kind="stable")
    if not np.array_equal(rows[positions], np.arange(len(rows))):
        raise BadInput(f"batches: must hold each of the rows 0 to {len(rows) - 1} exactly once")
    return positions


@contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, and afterwards each of its modules back in its own mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
