"""Gathers what many clients ask at the same time into batches for one model.

While a batch is computed, the next one gathers; a lone request waits for nobody. Where more than one client is
there, a batch takes about half of those under way, so that the other half is read and answered meanwhile and the
model never stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.errors import RunFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batcher", "TooBusy"]

_MOST_WAITING = 4096


class TooBusy(RunFailed):
    """More texts are waiting than are ever kept."""


@dataclass
class _Asked:
    text: str
    answer: asyncio.Future[NDArray[np.float32]]


class Batcher:
    """One model, asked for logits by many."""

    def __init__(self, logits: Callable[[Sequence[str]], NDArray[np.float32]], largest: int = 64) -> None:
        """Ask ``logits`` for at most ``largest`` texts at once, in one thread."""
        self._logits = logits
        self._largest = largest
        self._waiting: deque[_Asked] = deque()
        self._something = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        """How many were computed."""

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; whoever still waits is cancelled."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for asked in self._waiting:
            asked.answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits ``(texts, labels)``.

        Raises:
            TooBusy: too many texts are waiting.
        """
        if len(self._waiting) + len(texts) > _MOST_WAITING:
            raise TooBusy("too many texts are waiting; try again in a moment")
        loop = asyncio.get_running_loop()
        asked = [_Asked(text, loop.create_future()) for text in texts]
        self._waiting.extend(asked)
        self._something.set()
        return np.stack(await asyncio.gather(*(each.answer for each in asked)))

    async def run(self, work: Callable[[], object]) -> object:
        """Do other work on the model between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        before = 0
        while True:
            self._something.clear()
            if not self._waiting:
                await self._something.wait()
            await asyncio.sleep(0)  # let those that have arrived be read
            # Those of the batch before are being answered and may ask again; together they are who is there.
            there = len(self._waiting) + before
            size = min(self._largest, len(self._waiting), max(1, (there + 1) // 2))
            batch = [self._waiting.popleft() for _ in range(size)]
            before = size
            try:
                rows = await loop.run_in_executor(self._thread, self._logits, [each.text for each in batch])
            except Exception as error:  # noqa: BLE001 - whatever the model raised belongs to those who asked
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            self.batches += 1
            for each, row in zip(batch, rows, strict=True):
                if not each.answer.done():
                    each.answer.set_result(row)
