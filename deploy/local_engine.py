"""The `local` engine: an in-process Flower grid over worker processes, without Ray.

The unchanged ServerApp runs in this process, the unchanged ClientApp in the workers. A virtual site always
goes to the same worker, where its tokens and features stay in memory. Work is handed out only as workers
become free, so that at most one finished reply per worker waits for the coordinator.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.environment import PASSED_ON, THREADS_VARIABLE, WORKER_VARIABLE
from common.errors import RunFailed
from deploy.worker_channel import Channel, ReceivedRecords, SharedRecords

__all__ = ["SUPERLINK_NODE", "LocalGrid"]

SUPERLINK_NODE = 1
"""Flower's node id of the coordinator; sites come after it."""
_CLIENT_APP_RAISED_EXCEPTION = 2  # flwr.common.constant.ErrorCode


@dataclass
class _Worker:
    process: BaseProcess
    channel: Channel
    queue: deque[tuple[Message, Context]] = field(default_factory=deque)
    known: set[int] = field(default_factory=set)
    """Shared records that it has, by number."""
    busy_with: Message | None = None


class LocalGrid(Grid):
    """Flower's grid over local worker processes. A context manager: leaving it stops the workers."""

    def __init__(self, sites: int, workers: int, threads: int, client_app: str = "client.app") -> None:
        """Start ``workers`` processes of ``threads`` torch threads each for ``sites`` virtual sites."""
        self._run = Run.create_empty(1)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE
        self._contexts = {SUPERLINK_NODE + 1 + i: _site_context(i, sites) for i in range(sites)}
        self._done: dict[str, Message] = {}
        self._wanted: frozenset[str] = frozenset()
        self._pushes = 0
        self._shared = SharedRecords(0, [])
        context = _start_method(client_app)
        self._workers = [_start(context, client_app, threads, i) for i in range(min(workers, sites))]

    def __enter__(self) -> LocalGrid:
        """Return the grid itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the workers, at once."""
        for worker in self._workers:
            worker.channel.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()

    def set_run(self, run: Run) -> None:
        """See Flower's ``Grid``."""
        self._run = run

    @property
    def run(self) -> Run:
        """See Flower's ``Grid``."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Flower's ``Grid``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Node ids of the virtual sites, in the order of the partitions."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages at the workers of their sites; returns their ids.

        What is still open of earlier questions lapses: a late reply is dropped when it comes.
        """
        asked = list(messages)
        self._pushes += 1
        self._shared = SharedRecords(self._pushes, asked)
        for worker in self._workers:
            worker.queue.clear()
            worker.known.clear()
        self._done.clear()
        ids: list[str] = []
        for message in asked:
            identifier = _new_id(message)
            ids.append(identifier)
            node = message.metadata.dst_node_id
            worker = self._workers[(node - SUPERLINK_NODE - 1) % len(self._workers)]
            worker.queue.append((message, self._contexts[node]))
        self._wanted = frozenset(ids)
        self._hand_out()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies that have arrived, each once; waits a moment when there is none."""
        self._take_in(timeout=0.05)
        return [self._done.pop(identifier) for identifier in message_ids if identifier in self._done]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Push messages and wait for the replies."""
        waiting = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            arrived = self.pull_messages(list(waiting))
            replies += arrived
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
        return replies

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.busy_with is None and worker.queue:
                message, context = worker.queue.popleft()
                worker.busy_with = message
                with contextlib.suppress(OSError):  # a dead worker is noticed when it is read from
                    worker.channel.send((self._shared.parcel(message, worker.known), context))
        if not any(worker.queue for worker in self._workers):
            self._shared = SharedRecords(self._pushes, [])  # none is needed any more

    def _take_in(self, timeout: float) -> None:
        busy = {worker.channel.socket: worker for worker in self._workers if worker.busy_with is not None}
        for ready in wait(list(busy), timeout) if busy else ():
            worker = busy[ready]  # type: ignore[index]  # wait() returns what it was given
            message = worker.busy_with
            assert message is not None
            try:
                reply, context = worker.channel.receive()
                self._contexts[message.metadata.dst_node_id] = context
            except (EOFError, OSError):
                raise RunFailed(
                    f"a worker process ended unexpectedly (exit code {_exit_code(worker)}); if memory ran out, "
                    "lower simulation.workers or training.physical_batch_size"
                ) from None
            _new_id(reply)
            if message.metadata.message_id in self._wanted:
                self._done[message.metadata.message_id] = reply
            worker.busy_with = None
        self._hand_out()


def _site_context(partition: int, sites: int) -> Context:
    return Context(
        run_id=1,
        node_id=SUPERLINK_NODE + 1 + partition,
        node_config={"partition-id": partition, "num-partitions": sites},
        state=RecordDict(),
        run_config={},
    )


def _new_id(message: Message) -> str:
    # Flower's own grids do the same: a message gets its id when it is pushed, and there is no setter.
    identifier = str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = identifier
    return identifier


def _start_method(client_app: str) -> BaseContext:
    if "forkserver" in multiprocessing.get_all_start_methods():
        # The server imports torch and the ClientApp once; workers are then forked from it in milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([client_app, "client.virtual"])
        return context
    return multiprocessing.get_context("spawn")


def _start(context: BaseContext, client_app: str, threads: int, index: int) -> _Worker:
    ours, theirs = Channel.pair()
    process = context.Process(target=_work, args=(theirs, client_app, _settings(threads, index)), daemon=True)  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _settings(threads: int, index: int) -> dict[str, str]:
    """Hanse's environment variables for a worker; a server of forks keeps those of its own start."""
    inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return inherited | {WORKER_VARIABLE: str(index), THREADS_VARIABLE: str(threads)}


def _work(end: socket.socket, client_app: str, settings: dict[str, str]) -> None:
    """Answer messages until the connection closes. Ctrl-C is the coordinator's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in PASSED_ON:
        os.environ.pop(name, None)
    os.environ.update(settings)
    threading.Thread(target=_end_with_coordinator, daemon=True).start()
    from importlib import import_module

    import torch

    torch.set_num_threads(int(settings[THREADS_VARIABLE]))
    app = import_module(client_app).app
    channel, records = Channel(end), ReceivedRecords()
    with contextlib.suppress(EOFError, OSError):
        while True:
            parcel, context = channel.receive()
            channel.send((_answer(app, records.open(parcel), context), context))


def _end_with_coordinator() -> None:
    """End this process when the coordinator's does, also in the middle of a site's training."""
    coordinator = multiprocessing.parent_process()
    assert coordinator is not None
    wait([coordinator.sentinel])
    os._exit(1)


def _answer(app: Any, message: Message, context: Context) -> Message:
    try:
        reply: Message = app(message, context)
    except Exception as error:  # noqa: BLE001 - Flower's engines answer any exception with an error reply
        return Message(Error(_CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {error}"), reply_to=message)
    return reply


def _exit_code(worker: _Worker) -> int | None:
    worker.process.join(timeout=1)
    return worker.process.exitcode
