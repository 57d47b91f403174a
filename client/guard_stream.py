"""How a message crosses the guard's socket: announced with size and SHA-256, then sent in chunks.

The announcement travels as gRPC metadata, which comes before anything else; ``common/guard.proto`` documents it.
A receiver takes no byte beyond what was announced, and nothing that was announced larger than it allows. Both
ends import this module, so it knows neither torch nor the study.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from google.protobuf.wrappers_pb2 import BytesValue  # type: ignore[import-untyped]  # ships no types

from common.errors import BadInput

__all__ = [
    "CHUNK",
    "DESCRIBE_METHOD",
    "DIGEST_KEY",
    "LARGEST_MESSAGE",
    "RECEIPT_METHOD",
    "SERVICE",
    "SIZE_KEY",
    "TRAIN_METHOD",
    "Metadata",
    "announcement",
    "chunks",
    "pack",
    "received",
    "unpack",
]

SERVICE = "hanse.guard.Guard"
"""The gRPC service's full name."""
DESCRIBE_METHOD = "Describe"
TRAIN_METHOD = "Train"
RECEIPT_METHOD = "Receipt"

CHUNK = 2**20
"""Most bytes of one chunk."""
LARGEST_MESSAGE = 2**31 - 1
"""Most bytes of one message, unless a guard is set to less: what protobuf itself allows."""
SIZE_KEY = "hanse-size"
"""Metadata key of the message's size in bytes, in decimal digits."""
DIGEST_KEY = "hanse-sha256"
"""Metadata key of the message's SHA-256, in lower-case hexadecimal."""

Metadata = Sequence[tuple[str, str | bytes]]

_SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def announcement(message: bytes) -> tuple[tuple[str, str], ...]:
    """The metadata that goes ahead of a message."""
    return ((SIZE_KEY, str(len(message))), (DIGEST_KEY, hashlib.sha256(message).hexdigest()))


def chunks(message: bytes) -> Iterator[bytes]:
    """The message in order, each piece of at most :data:`CHUNK` bytes a serialized ``BytesValue``."""
    view = memoryview(message)
    for start in range(0, len(message), CHUNK):
        yield BytesValue(value=bytes(view[start : start + CHUNK])).SerializeToString()


def received(stream: Iterable[bytes], metadata: Metadata, largest: int = LARGEST_MESSAGE) -> bytes:
    """The whole message of a stream of :func:`chunks`, just as it was announced.

    Raises:
        BadInput: it was not announced, or larger than ``largest`` bytes, or the stream is longer or shorter than
            announced, in chunks that are too large or no chunks, or has another digest.
    """
    size, digest = _announced(metadata)
    if size > largest:
        raise BadInput(f"stream: {SIZE_KEY} = {size}: must be at most {largest}")
    message = bytearray()
    for piece in stream:
        message += _content(piece)
        if len(message) > size:
            raise BadInput(f"stream: goes on after the {size} bytes that were announced")
    if len(message) < size:
        raise BadInput(f"stream: ends after {len(message)} of the {size} bytes that were announced")
    if hashlib.sha256(message).hexdigest() != digest:
        raise BadInput(f"stream: its SHA-256 is not the one announced in {DIGEST_KEY}")
    return bytes(message)


def pack(content: RecordDict) -> bytes:
    """A Flower message's content as bytes."""
    return bytes(recorddict_to_proto(content).SerializeToString())


def unpack(message: bytes) -> RecordDict:
    """Read :func:`pack`; raises ``BadInput`` on anything else."""
    try:
        return recorddict_from_proto(ProtoRecordDict.FromString(message))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"stream: holds no Flower RecordDict ({type(error).__name__})") from None


def _content(piece: bytes) -> bytes:
    try:
        content = bytes(BytesValue.FromString(piece).value)
    except DecodeError:
        raise BadInput(f"stream: a chunk of {len(piece)} bytes is no BytesValue") from None
    if len(content) > CHUNK:
        raise BadInput(f"stream: a chunk of {len(content)} bytes: must be at most {CHUNK}")
    return content


def _announced(metadata: Metadata) -> tuple[int, str]:
    values = {key: value for key, value in metadata if isinstance(value, str)}
    size, digest = values.get(SIZE_KEY, ""), values.get(DIGEST_KEY, "")
    if not _SIZE.fullmatch(size):
        raise BadInput(f"stream: {SIZE_KEY} = {size[:24]!r}: must be the size in decimal digits")
    if not _DIGEST.fullmatch(digest):
        raise BadInput(f"stream: {DIGEST_KEY}: must be 64 lower-case hexadecimal digits")
    return int(size), digest
