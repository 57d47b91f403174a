"""What the classifier's last layer sees of each text, drawn in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput
from deploy.open_model import OpenModel

__all__ = ["Projection", "pooled_features", "projection"]


@dataclass(frozen=True)
class Projection:
    """The first two principal components of pooled features."""

    points: NDArray[np.float64]
    """``(texts, 2)``."""
    explained: tuple[float, float]
    """Share of the variance along each."""


def pooled_features(model: OpenModel, texts: Sequence[str]) -> NDArray[np.float64]:
    """Input of the last linear layer for each text: ``(texts, width)``."""
    last = _last_layer(model.network, len(model.labels))
    caught: list[NDArray[np.float64]] = []

    def keep(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        caught.append(given[0].detach().double().cpu().numpy())

    hook = last.register_forward_pre_hook(keep)
    try:
        for start in range(0, len(texts), 32):
            encoded = model.encode(texts[start : start + 32])
            with torch.no_grad():
                model.network(input_ids=encoded.ids, attention_mask=encoded.mask)
    finally:
        hook.remove()
    return np.concatenate(caught)


def projection(features: NDArray[np.float64]) -> Projection | None:
    """Project by principal components; None for fewer than three texts or features that do not differ.

    Raises:
        BadInput: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise BadInput("scikit-learn: not installed; run: pip install 'hanse[explain]'") from error
    if len(features) < 3 or np.ptp(features, axis=0).max() == 0:
        return None
    fitted = PCA(n_components=2, svd_solver="full").fit(features)
    first, second = fitted.explained_variance_ratio_
    return Projection(np.asarray(fitted.transform(features)), (float(first), float(second)))


def _last_layer(network: torch.nn.Module, labels: int) -> torch.nn.Linear:
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == labels]
    if not layers:
        raise BadInput("the model has no linear layer that gives its labels; its features cannot be drawn")
    return layers[-1]
