"""Where tensors live and in which precision a forward pass runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from common.errors import BadInput
from common.study import TrainingSection

__all__ = ["autocast", "choose_device"]


def choose_device(wanted: str, index: int = 0) -> torch.device:
    """The device a study asks for: ``auto`` takes CUDA, then MPS, then the CPU.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        index: spreads workers over several GPUs.

    Raises:
        BadInput: the device is not there.
    """
    if wanted in {"auto", "cuda"} and torch.cuda.is_available():
        return torch.device("cuda", index % torch.cuda.device_count())
    if wanted in {"auto", "mps"} and torch.backends.mps.is_available():
        return torch.device("mps")
    if wanted in {"auto", "cpu"}:
        return torch.device("cpu")
    raise BadInput(f'training.device = "{wanted}": not available on this machine; use "auto" or "cpu"')


def autocast(section: TrainingSection, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A factory of contexts for forward passes: bfloat16 autocast, or nothing at all for float32.

    ``auto`` takes bfloat16 on CUDA, and on processors that multiply bfloat16 in hardware.
    """
    if section.precision == "float32" or (section.precision == "auto" and not _multiplies_bfloat16(device)):
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(probe and probe())
    return False
