"""How coordinator and workers of the local engine talk: pickled values over a pair of sockets, with few copies.

``multiprocessing``'s own pipes read a megabyte in many small pieces, each into a new buffer of the full size,
which took most of the coordinator's time. Records that several messages share, as the plan and the weights of a
round, are pickled once and cross to each worker once.
"""

from __future__ import annotations

import io
import pickle
import socket
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from flwr.app import Message

__all__ = ["Channel", "Parcel", "ReceivedRecords", "SharedRecords"]

_LENGTH = 8
_WHOLE = getattr(socket, "MSG_WAITALL", 0)


class Channel:
    """One end of a connection. What arrives is unpickled: both ends belong to one program."""

    def __init__(self, end: socket.socket) -> None:
        """``end`` of a stream; a socket can be handed to a child process, a channel cannot."""
        self.socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """An own end, and the one for a child process."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def send(self, value: object) -> None:
        """Send a value; blocks until the other end has taken most of it.

        Raises:
            OSError: the other end is gone.
        """
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self.socket.sendall(len(data).to_bytes(_LENGTH, "big"))
        self.socket.sendall(data)

    def receive(self) -> Any:
        """The next value; blocks until it is there.

        Raises:
            EOFError: the other end was closed.
            OSError: the connection broke.
        """
        return pickle.loads(self._bytes(int.from_bytes(self._bytes(_LENGTH), "big")))

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def _bytes(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            piece = self.socket.recv(count, _WHOLE)  # all at once but where a signal comes between
            if not piece:
                raise EOFError
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(frozen=True)
class Parcel:
    """A message as it crosses to a worker."""

    series: int
    """Messages that were pushed together have one; records of another are forgotten."""
    records: dict[int, bytes]
    """Shared records that this worker has not had yet, pickled, by number."""
    message: bytes
    """The message, pickled, with numbers where shared records stand."""


class SharedRecords:
    """The records that several messages of one push have in common, at the coordinator."""

    def __init__(self, series: int, messages: Collection[Message]) -> None:
        """``series`` is another for every push."""
        self._series = series
        found = [record for message in messages if message.has_content() for record in message.content.values()]
        uses = Counter(map(id, found))
        self._records = list({id(record): record for record in found if uses[id(record)] > 1}.values())
        self._numbers = {id(record): number for number, record in enumerate(self._records)}
        self._pickled: dict[int, bytes] = {}

    def parcel(self, message: Message, known: set[int]) -> Parcel:
        """The message for a worker that has the ``known`` records; those it gets now are added to them."""
        text = io.BytesIO()
        pickler = _Pickler(text, self._numbers)
        pickler.dump(message)
        missing = pickler.met - known
        known |= missing
        return Parcel(self._series, {number: self._once(number) for number in missing}, text.getvalue())

    def _once(self, number: int) -> bytes:
        if number not in self._pickled:
            self._pickled[number] = pickle.dumps(self._records[number], protocol=pickle.HIGHEST_PROTOCOL)
        return self._pickled[number]


class ReceivedRecords:
    """The records of a worker's current series; every message gets copies of its own."""

    def __init__(self) -> None:
        self._series = -1
        self._pickled: dict[int, bytes] = {}

    def open(self, parcel: Parcel) -> Message:
        """The message in a parcel."""
        if parcel.series != self._series:
            self._series, self._pickled = parcel.series, {}
        self._pickled |= parcel.records
        message = _Unpickler(io.BytesIO(parcel.message), self._pickled).load()
        assert isinstance(message, Message)
        return message


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, numbers: dict[int, int]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._numbers = numbers
        self.met: set[int] = set()

    def persistent_id(self, obj: Any) -> int | None:
        number = self._numbers.get(id(obj))
        if number is not None:
            self.met.add(number)
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, pickled: dict[int, bytes]) -> None:
        super().__init__(file)
        self._pickled = pickled

    def persistent_load(self, pid: Any) -> Any:
        return pickle.loads(self._pickled[pid])
