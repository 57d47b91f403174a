"""A deployment without Flower's processes: a coordinator, real guards, and a grid that relays between them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client.guard import Guard, GuardSettings
from client.guard_relay import ask_guard
from client.guard_stream import DESCRIBE_METHOD, RECEIPT_METHOD, TRAIN_METHOD
from common.privacy.ledger.keys import create_site_key
from common.study import Study
from common.wire import DESCRIBE, TRAIN
from common.wire_receipt import RECEIPT
from deploy.local_engine import SUPERLINK_NODE
from server.run_directory import RunDirectory
from server.study_run import run_study
from server.witness import CoordinatorWitness
from tests.client.guards import site_folder

NAMES = ("north", "south")
_METHODS = {DESCRIBE: DESCRIBE_METHOD, TRAIN: TRAIN_METHOD, RECEIPT: RECEIPT_METHOD}


class GuardGrid(Grid):  # type: ignore[misc]  # Flower ships no types for it
    """Relays each message to the guard of its node, as ``client.app`` does."""

    def __init__(self, sockets: dict[int, Path]) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE
        self.sockets = sockets
        self.asked: list[tuple[int, str]] = []
        self._waiting: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.sockets)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        self._waiting = {_with_id(message): message for message in messages}
        return list(self._waiting)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        found = []
        for identifier in message_ids:
            if (message := self._waiting.pop(identifier, None)) is not None:
                node, kind = message.metadata.dst_node_id, message.metadata.message_type
                self.asked.append((node, kind))
                content = ask_guard(self.sockets[node], _METHODS[kind], message.content, timeout=60.0)
                reply = Message(content, reply_to=message)
                _with_id(reply)
                found.append(reply)
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


def _with_id(message: Message) -> str:
    identifier = str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = identifier
    return identifier


class Deployment:
    """Two sites' folders, and a coordinator's with its witness key."""

    def __init__(self, folder: Path, settings: list[GuardSettings]) -> None:
        self.coordinator = folder / "coordinator"
        key = create_site_key(self.coordinator / "witness.key")
        self.settings = [
            GuardSettings(each.directory, each.data, coordinators={key.public_hex: "trial"}) for each in settings
        ]
        sockets = {number: each.directory.path / "guard.sock" for number, each in enumerate(self.settings, 1)}
        self.grid = GuardGrid(sockets)
        self._guards = [Guard(each) for each in self.settings]
        self._running = ExitStack()

    def __enter__(self) -> Deployment:
        for guard in self._guards:
            guard.__enter__()
        self._running.callback(lambda: [guard.__exit__() for guard in self._guards])
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    def stop(self, site: int) -> None:
        """A guard ends; what it held in memory is gone."""
        self._guards[site].__exit__()

    def start(self, site: int) -> None:
        """It starts anew, from what lies in its folder."""
        self._guards[site] = Guard(self.settings[site])
        self._guards[site].__enter__()

    def run(self, study: Study, directory: RunDirectory, resume: bool = False) -> None:
        """Run the study as the coordinator's Flower app does."""
        nodes = dict(enumerate(NAMES, 1))
        witness = CoordinatorWitness(self.coordinator, nodes, directory.run_identifier())
        run_study(study, self.grid, directory, resume, witness)


@contextmanager
def deployment(folder: Path, **changes: dict[str, Any]) -> Iterator[Deployment]:
    """A deployment whose guards run; ``changes`` to the sites' policies by section."""
    with ExitStack() as stack:
        made = []
        for name in NAMES:
            site = {"name": name, **changes.get("site", {})}
            made.append(stack.enter_context(site_folder(**{**changes, "site": site, "allow": {"min_sites": 1}})))
        try:
            with Deployment(folder, made) as running:
                yield running
        finally:
            shutil.rmtree(folder / "coordinator", ignore_errors=True)
