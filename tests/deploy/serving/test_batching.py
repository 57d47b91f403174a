"""Many clients, one model: answers go to who asked, errors too, and a busy model works on batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from deploy.serving.batching import Batcher, TooBusy


def lengths(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A model that says how long each text is; a batch takes 10 milliseconds however large."""
    time.sleep(0.01)
    if "bad" in texts:
        raise ValueError("bad text")
    return np.array([[len(text), 0.0] for text in texts], dtype=np.float32)


def with_batcher(work: Callable[[Batcher], Any], largest: int = 8) -> Any:
    """Run a coroutine function beside a batcher."""

    async def go() -> Any:
        batcher = Batcher(lengths, largest)
        batcher.start()
        try:
            return await asyncio.wait_for(work(batcher), 30)
        finally:
            await batcher.stop()

    return asyncio.run(go())


def test_each_gets_its_own_answer_in_few_batches() -> None:
    async def work(batcher: Batcher) -> int:
        answers = await asyncio.gather(*(batcher.logits(["x" * n, "x" * (n + 1)]) for n in range(1, 41)))
        for n, rows in enumerate(answers, start=1):
            assert rows[:, 0].tolist() == [n, n + 1]
        return batcher.batches

    assert 10 <= with_batcher(work) <= 14  # 80 texts in eights


def test_a_lone_request_waits_for_nobody() -> None:
    async def work(batcher: Batcher) -> float:
        started = time.monotonic()
        for _ in range(10):
            await batcher.logits(["x"])
        return time.monotonic() - started

    assert with_batcher(work) < 2.0  # ten batches of 10 ms; a wait for company would show


def test_an_error_reaches_its_batch_and_no_other() -> None:
    async def work(batcher: Batcher) -> None:
        with pytest.raises(ValueError, match="bad text"):
            await batcher.logits(["bad"])
        assert (await batcher.logits(["good"]))[0, 0] == 4

    with_batcher(work)


def test_clients_that_left_do_no_harm() -> None:
    async def work(batcher: Batcher) -> None:
        left = [asyncio.create_task(batcher.logits(["x"])) for _ in range(20)]
        await asyncio.sleep(0.005)
        for task in left:
            task.cancel()
        assert (await batcher.logits(["four"]))[0, 0] == 4

    with_batcher(work)


def test_there_is_an_end_to_waiting() -> None:
    async def work(batcher: Batcher) -> None:
        with pytest.raises(TooBusy, match="too many"):
            await batcher.logits(["x"] * 5000)

    with_batcher(work)
