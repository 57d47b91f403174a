"""The ClientApp with a stopwatch around training proper; writes seconds to the file that BENCHMARK_LOG names.

An engine loads it in place of ``client.app``; nothing else about the site is changed.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import client.trainer
from client.app import app

__all__ = ["app"]


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def measured(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            log = Path(os.environ["BENCHMARK_LOG"])
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.perf_counter() - started}\n")

    return measured


# Features of the round's draws, then the steps themselves: this is all of a site's training.
client.trainer.LocalTrainer.head_trainee = _timed(client.trainer.LocalTrainer.head_trainee)  # type: ignore[method-assign]
client.trainer.train_privately = _timed(client.trainer.train_privately)
client.trainer.train_without_privacy = _timed(client.trainer.train_without_privacy)
