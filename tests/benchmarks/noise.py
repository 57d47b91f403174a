"""What private noise costs, as ratios: against torch's own generator, and within a training step.

Competitors take turns, so that a busy machine slows all alike; a ratio is one of medians of processor time
(generators) or of seconds (steps). ``python -m tests.benchmarks.noise`` prints JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from client.training import LocalOptimizer, StepPlan, Trainee, TrainingBatch, train_privately
from common.privacy.gaussian_noise import add_noise, standard_normal
from common.privacy.keystream import Keystream
from common.privacy.randomness import NoiseSource, SystemRandomness

__all__ = ["generator_ratios", "noise_share_of_a_step"]


def generator_ratios(count: int = 2**21, repeats: int = 15) -> dict[str, float]:
    """Speed of plain draws and of grid-rounded sums relative to ``torch.normal``, all on one thread."""
    stream, total = Keystream(), np.zeros(count, np.float32)
    zeros, block = bytes(2**20), bytearray(2**20)
    aes = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()
    chacha = Cipher(ChaCha20(os.urandom(32), os.urandom(16)), None).encryptor()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = _in_turns(
        {
            "torch": lambda: torch.normal(0.0, 1.0, (count,)),
            "plain": lambda: standard_normal(count, stream),
            "rounded": lambda: add_noise(total, 1.3, stream),
            "words": lambda: stream.words(count),
            "aes": lambda: aes.update_into(zeros, block),
            "chacha": lambda: chacha.update_into(zeros, block),
            "urandom": lambda: os.urandom(2**20),
        },
        repeats,
    )
    torch.set_num_threads(threads)
    return {
        "plain_over_torch_speed": round(seconds["torch"] / seconds["plain"], 3),
        "rounded_over_torch_speed": round(seconds["torch"] / seconds["rounded"], 3),
        "torch_nanoseconds": round(seconds["torch"] / count * 1e9, 2),
        "plain_nanoseconds": round(seconds["plain"] / count * 1e9, 2),
        "rounded_nanoseconds": round(seconds["rounded"] / count * 1e9, 2),
        "keystream_nanoseconds_per_word": round(seconds["words"] / count * 1e9, 2),
        "aes_gigabytes_per_second": round(len(zeros) / seconds["aes"] / 1e9, 2),
        "chacha20_gigabytes_per_second": round(len(zeros) / seconds["chacha"] / 1e9, 2),
        "urandom_gigabytes_per_second": round(len(zeros) / seconds["urandom"] / 1e9, 2),
    }


def _in_turns(competitors: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(repeats):
        for name, run in competitors.items():
            started = time.thread_time()
            run()
            spent[name].append(time.thread_time() - started)
    return {name: statistics.median(each[1:]) for name, each in spent.items()}


class _Timed:
    """A noise source with a stopwatch."""

    private = True

    def __init__(self, source: SystemRandomness) -> None:
        self._source: NoiseSource = source
        self.poisson_batch = source.poisson_batch
        self.seconds = 0.0

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        started = time.perf_counter()
        noised = self._source.noisy_sum(total, standard_deviation)
        self.seconds += time.perf_counter() - started
        return noised


def noise_share_of_a_step(
    mode: str, batch_size: int = 128, tokens: int = 32, physical: int = 16, steps: int = 3
) -> dict[str, Any]:
    """Seconds of a DP-SGD step of an untrained MiniLM (22.7 million parameters), and the noise's share of them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        network = _minilm(Path(folder), mode).to(device)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def batches(indexes: NDArray[np.int64]) -> Iterator[TrainingBatch]:
        for start in range(0, len(indexes), physical):
            rows = len(indexes[start : start + physical])
            inputs = {
                "input_ids": torch.randint(5, 30_000, (rows, tokens), device=device),
                "attention_mask": torch.ones(rows, tokens, dtype=torch.int64, device=device),
            }
            yield TrainingBatch(inputs, torch.zeros(rows, dtype=torch.int64, device=device))

    trainee, plan = Trainee(network, parameters, batches), StepPlan(0.1, 1.0, 1.0, batch_size, 1)
    shares, seconds, noise = [], [], []
    for _ in range(steps + 1):
        timed, started = _Timed(SystemRandomness()), time.perf_counter()
        train_privately(trainee, plan, LocalOptimizer("sgd", 0.1, 0, 0), [np.arange(batch_size)], timed)
        seconds.append(time.perf_counter() - started)
        noise.append(timed.seconds)
        shares.append(timed.seconds / seconds[-1])
    return {
        "trainable": mode,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "batch_size": batch_size,
        "tokens": tokens,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "step_seconds": round(statistics.median(seconds[1:]), 3),
        "noise_seconds": round(statistics.median(noise[1:]), 4),
        "noise_share": round(statistics.median(shares[1:]), 4),
    }


def _minilm(folder: Path, mode: str) -> torch.nn.Module:
    from transformers import AutoModel, BertConfig

    from common.model import build_classifier
    from common.study_file import parse_study
    from tests.tiny import tiny_study_text, write_tiny_base

    base = write_tiny_base(folder / "base")
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    AutoModel.from_config(config).save_pretrained(base)
    overrides = (f"model.trainable={mode}", "model.pooling=mean", "model.lora_rank=8")
    return build_classifier(parse_study(tiny_study_text(base, base), "benchmark", overrides))


if __name__ == "__main__":
    found: dict[str, Any] = {"generators": generator_ratios()}
    modes = sys.argv[1:] or ["lora", "full"]
    found["steps"] = [noise_share_of_a_step(mode) for mode in modes]
    print(json.dumps(found, indent=2))
