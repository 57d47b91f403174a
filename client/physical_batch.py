"""How many rows are trained on at once: a number from the study, or what a memory budget holds.

Speed alone depends on it: a logical batch is the sum of its physical ones.
"""

from __future__ import annotations

import torch

from common.model import Classifier
from common.study import Study

__all__ = ["physical_batch_size"]

_CPU_BYTES = 512 * 2**20
"""A site's share on a CPU, where several train at once and larger batches gain little."""
_GPU_SHARE = 0.4
"""Of a GPU's free memory."""
_WIDTHS = 25
"""Vectors of the hidden size that one token of one layer leaves for the backward pass, gradients included."""
_LARGEST = 1024


def physical_batch_size(study: Study, classifier: Classifier) -> int:
    """Rows of a physical batch; under ``auto`` a power of two, and never fewer than a person's rows.

    The estimate for one row: ``layers * (25 * tokens * hidden + 2 * heads * tokens^2)`` float32 numbers.
    """
    wanted = study.training.physical_batch_size
    if wanted != "auto":
        return wanted
    device = next(classifier.parameters()).device
    budget = _GPU_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float(_CPU_BYTES)
    rows = int(budget / (4 * _numbers_of_a_row(study, classifier)))
    fitting = 1 << max(0, min(rows, _LARGEST).bit_length() - 1)
    return max(fitting, study.privacy.rows_per_group if study.privacy.unit == "group" else 1)


def _numbers_of_a_row(study: Study, classifier: Classifier) -> float:
    config, tokens = classifier.network.config, study.task.max_length
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    return float(int(config.num_hidden_layers) * (_WIDTHS * tokens * hidden + 2 * heads * tokens**2))
