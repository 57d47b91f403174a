"""The relay's side of the guard: bytes to the socket, bytes back. Knows neither torch nor the study.

It runs inside Flower's client, on code that the coordinator sent, and so can do no more than ask.
"""

from __future__ import annotations

from pathlib import Path

import grpc  # type: ignore[import-untyped]  # ships no types
from flwr.app import ConfigRecord, RecordDict

from client.guard_stream import SERVICE, announcement, chunks, pack, received, unpack
from common.errors import BadInput

__all__ = ["ask_guard"]


def ask_guard(socket: Path, method: str, content: RecordDict, timeout: float) -> RecordDict:
    """The guard's reply to a message; a refusal where there is no guard, or it gives no answer.

    Args:
        socket: the guard's Unix socket.
        method: ``Describe`` or ``Train``.
        content: what the coordinator sent.
        timeout: seconds until nobody waits for the reply any more.
    """
    message = pack(content)
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.stream_stream(f"/{SERVICE}/{method}")
        call = ask(chunks(message), timeout=timeout, metadata=announcement(message))
        try:
            metadata = [(each.key, each.value) for each in call.initial_metadata()]
            return unpack(received(call, metadata))
        except grpc.RpcError as error:
            return _refused(error.code().name)
        except BadInput:
            call.cancel()
            # A call that was turned down announces nothing; its status says why.
            code = call.code()
            return _refused("DAMAGED" if code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED) else code.name)


def _refused(status: str) -> RecordDict:
    """A refusal as ``common.wire.pack_refusal`` makes it, of which this side imports nothing."""
    told = {"error": "RunFailed", "message": f"the site's guard gave no reply: {status}"}
    return RecordDict({"refusal": ConfigRecord(dict(told))})
