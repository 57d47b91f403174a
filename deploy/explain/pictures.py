"""Pictures as PNG inside a data address, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput
from deploy.explain.projection import Projection

__all__ = ["attention_picture", "projection_picture"]

_COLUMNS = 4
_MOST_TICKS = 40


def attention_picture(attention: NDArray[np.float64], tokens: Sequence[str]) -> str:
    """One panel a layer: from each token (down) to each token (across), the mean over heads."""
    layers = len(attention)
    columns = min(_COLUMNS, layers)
    rows = -(-layers // columns)
    size = float(np.clip(0.16 * len(tokens), 2.2, 6.0))
    figure = _figure(columns * size, rows * (size + 0.6))
    for layer in range(layers):
        axes = figure.add_subplot(rows, columns, layer + 1)
        axes.imshow(attention[layer], cmap="viridis", vmin=0)
        axes.set_title(f"layer {layer + 1}", fontsize=8)
        if len(tokens) <= _MOST_TICKS:
            axes.set_xticks(range(len(tokens)), [_shown(t) for t in tokens], rotation=90, fontsize=5)
            axes.set_yticks(range(len(tokens)), [_shown(t) for t in tokens], fontsize=5)
    return _data_address(figure)


def projection_picture(
    projected: Projection, answers: NDArray[np.int64], labels: Sequence[str], marked: int
) -> str:
    """Each text a point in the colour of its answer; the first ``marked`` are numbered crosses."""
    figure = _figure(6.0, 4.5)
    axes = figure.add_subplot(1, 1, 1)
    for label, name in enumerate(labels):
        rows = np.flatnonzero(answers == label)
        axes.scatter(*projected.points[rows].T, s=9, alpha=0.6, label=_shown(name))
    for row in range(marked):
        axes.scatter(*projected.points[row], s=60, marker="x", color="black")
        axes.annotate(str(row + 1), projected.points[row], fontsize=9)
    axes.set_xlabel(f"first component ({projected.explained[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({projected.explained[1]:.0%})")
    axes.legend(fontsize=8)
    return _data_address(figure)


def _shown(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads what stands between two as a formula


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput("matplotlib: not installed; run: pip install 'hanse[explain]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _data_address(figure: Any) -> str:
    written = io.BytesIO()
    # No date and version inside: the same figures give the same bytes.
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")
