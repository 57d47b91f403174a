"""Requests that nobody should send, at both doors: a guard's socket and the coordinator's port."""

from __future__ import annotations

import base64
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
from google.protobuf.wrappers_pb2 import BytesValue

from client.guard import GuardSettings, socket_of
from client.guard_stream import (
    CHUNK,
    DESCRIBE_METHOD,
    DIGEST_KEY,
    RECEIPT_METHOD,
    SERVICE,
    SIZE_KEY,
    TRAIN_METHOD,
    announcement,
    chunks,
)
from deploy.federation.coordinator_directory import CoordinatorDirectory

__all__ = ["Fuzzed", "fuzz_coordinator", "fuzz_guard"]

_SECONDS = 30.0
"""A request without an answer by then hangs."""
_METHODS = (DESCRIBE_METHOD, TRAIN_METHOD, RECEIPT_METHOD, "Cancel", "Nothing")
_PATHS = (
    *("/v1/fleet/pull-messages", "/v1/fleet/push-messages", "/v1/fleet/activate-node", "/v1/fleet/get-run"),
    *("/v1/fleet/send-node-heartbeat", "/v1/fleet/", "/v1/control/start-run", "/v1/control/list-runs"),
    *("/v1/runtime/acquire-task", "/health", "/docs", "/openapi.json", "/"),
)


@dataclass
class Fuzzed:
    """What came of it."""

    requests: int
    answers: dict[str, int] = field(default_factory=dict)
    """How often each status came back."""
    hung: int = 0
    slowest_seconds: float = 0.0
    memory_before_mib: float = 0.0
    """Resident memory of the process after a tenth of the requests."""
    memory_after_mib: float = 0.0
    seconds: float = 0.0


def fuzz_guard(settings: GuardSettings, pid: int, valid: bytes, requests: int, seed: int = 0) -> Fuzzed:
    """Send ``requests`` broken streams to a guard; ``valid`` is a whole message that some are made from."""
    chooser = random.Random(seed)
    with grpc.insecure_channel(f"unix:{socket_of(settings.directory)}") as channel:

        def ask() -> str:
            method = channel.stream_stream(f"/{SERVICE}/{chooser.choice(_METHODS)}")
            pieces, metadata = _stream(valid, chooser)
            try:
                for _ in method(iter(pieces), metadata=metadata, timeout=_SECONDS):
                    pass
            except grpc.RpcError as error:
                return str(error.code().name)
            return "answered"

        return _all(ask, "DEADLINE_EXCEEDED", pid, requests)


def fuzz_coordinator(
    directory: CoordinatorDirectory, pid: int, key: bytes, requests: int, seed: int = 0
) -> Fuzzed:
    """Send ``requests`` broken requests to the coordinator's port; ``key`` is a registered node's public PEM."""
    chooser = random.Random(seed)
    address = directory.federation().local_address
    context = ssl.create_default_context(cafile=str(directory.authority[1]))
    with httpx.Client(verify=context, base_url=f"https://{address}", timeout=_SECONDS) as client:

        def ask() -> str:
            headers = {"content-type": chooser.choice(("application/protobuf", "application/json", "x" * 50))}
            if chooser.random() < 0.7:
                headers["flwr-public-key"] = base64.b64encode(_damaged(key, chooser, 0.1)).decode()
            if chooser.random() < 0.5:
                headers |= {"flwr-timestamp": str(chooser.random()), "flwr-signature": "AA=="}
            if chooser.random() < 0.2:
                headers["authorization"] = f"Bearer {chooser.randbytes(chooser.randrange(1, 40)).hex()}"
            method = chooser.choice(("POST", "POST", "POST", "GET", "PUT", "OPTIONS"))
            body = chooser.randbytes(chooser.choice((0, 1, 10, 1000, 100_000)))
            try:
                answer = client.request(method, chooser.choice(_PATHS), headers=headers, content=body)
            except httpx.TimeoutException:
                return "hung"
            except httpx.TransportError as error:
                return type(error).__name__
            return str(answer.status_code)

        return _all(ask, "hung", pid, requests)


def _all(ask: Callable[[], str], hung: str, pid: int, requests: int) -> Fuzzed:
    found = Fuzzed(requests)
    process, counted, started = psutil.Process(pid), Counter[str](), time.monotonic()
    for number in range(requests):
        asked = time.monotonic()
        counted[ask()] += 1
        found.slowest_seconds = max(found.slowest_seconds, time.monotonic() - asked)
        if number == requests // 10:
            found.memory_before_mib = _mebibytes(process)
    found.memory_after_mib = _mebibytes(process)
    found.hung = counted[hung]
    found.answers = dict(sorted(counted.items()))
    found.seconds = time.monotonic() - started
    return found


def _mebibytes(process: Any) -> float:
    return float(process.memory_info().rss / 2**20)


def _stream(valid: bytes, chooser: random.Random) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Pieces and their announcement: damaged in what is said, in the order, or in the message itself."""
    kind = chooser.randrange(8)
    message = chooser.randbytes(chooser.choice((0, 1, 100, 10_000))) if kind == 0 else valid
    if kind in (1, 2):
        message = _damaged(valid, chooser, 1.0)
    metadata, pieces = list(announcement(message)), list(_small(message, chooser))
    if kind == 3:
        metadata[0] = (SIZE_KEY, chooser.choice(("10000000000", "-1", "", "x", "9" * 30, str(len(message) + 1))))
    elif kind == 4:
        metadata[1] = (DIGEST_KEY, chooser.choice(("", "0" * 64, "g" * 64, "ä".encode().hex())))
    elif kind == 5:
        pieces = pieces[: chooser.randrange(len(pieces) + 1)]
    elif kind == 6:
        chooser.shuffle(pieces)
        pieces += pieces[:1]
    elif kind == 7:
        metadata = metadata[: chooser.randrange(2)]
        pieces = [chooser.randbytes(chooser.randrange(50)) for _ in range(chooser.randrange(5))]
    return pieces, metadata


def _small(message: bytes, chooser: random.Random) -> Iterator[bytes]:
    if chooser.random() < 0.5:
        yield from chunks(message)
        return
    size = min(CHUNK, chooser.choice((100, 5_000)))
    for start in range(0, len(message), size):
        yield BytesValue(value=message[start : start + size]).SerializeToString()


def _damaged(valid: bytes, chooser: random.Random, chance: float) -> bytes:
    """A few bytes changed, cut out or doubled, with probability ``chance``."""
    if chooser.random() >= chance:
        return valid
    found = bytearray(valid)
    for _ in range(chooser.randrange(1, 5)):
        place = chooser.randrange(len(found))
        match chooser.randrange(3):
            case 0:
                found[place] = chooser.randrange(256)
            case 1:
                del found[place : place + chooser.randrange(1, 20)]
            case _:
                found[place:place] = found[place : place + chooser.randrange(1, 20)]
    return bytes(found)
