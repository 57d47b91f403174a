"""What coordinator and workers of the local engine send each other: whole, once, and nobody's but their own."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from deploy.local_engine import SUPERLINK_NODE
from deploy.worker_channel import Channel, ReceivedRecords, SharedRecords


def message(content: RecordDict, node: int = 2) -> Message:
    """A question to a site, by the coordinator that a grid makes of this process."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE
    return Message(content, node, "train")


def weights(value: float = 1.0) -> ArrayRecord:
    """A record of 400 KB and a scalar."""
    return ArrayRecord({"w": Array(np.full(100_000, value, np.float32)), "s": Array(np.array(value, np.float32))})


def first(content: RecordDict) -> float:
    """The scalar of such a record."""
    record = content["weights"]
    assert isinstance(record, ArrayRecord)
    return float(record["s"].numpy())


@pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
def test_what_is_sent_arrives(size: int) -> None:
    """Also what is far larger than the system's buffers."""
    ours, theirs = Channel.pair()
    value = {"data": bytes(range(256)) * (size // 256), "size": size}
    sender = threading.Thread(target=Channel(theirs).send, args=[value])
    sender.start()
    assert ours.receive() == value
    sender.join()


def test_the_end_of_the_other_side_is_told() -> None:
    ours, theirs = Channel.pair()
    theirs.sendall((100).to_bytes(8, "big") + b"half")
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()


class TestSharedRecords:
    """Records that messages have in common."""

    def test_a_shared_record_crosses_to_a_worker_once(self) -> None:
        record = weights()
        messages = [message(RecordDict({"weights": record}), node) for node in range(2, 6)]
        shared, known, worker = SharedRecords(1, messages), set[int](), ReceivedRecords()
        parcels = [shared.parcel(each, known) for each in messages]
        assert [len(parcel.records) for parcel in parcels] == [1, 0, 0, 0]
        assert max(len(parcel.message) for parcel in parcels) < 10_000
        opened = [worker.open(parcel) for parcel in parcels]
        assert [first(each.content) for each in opened] == [1.0] * 4
        assert [each.metadata.dst_node_id for each in opened] == [2, 3, 4, 5]

    def test_every_message_has_a_copy_of_its_own(self) -> None:
        """What one site does to its message is nothing to the next."""
        record = weights()
        messages = [message(RecordDict({"weights": record})) for _ in range(2)]
        shared, known, worker = SharedRecords(1, messages), set[int](), ReceivedRecords()
        one, two = (worker.open(shared.parcel(each, known)) for each in messages)
        one.content["weights"]["s"] = Array(np.array(9.0, np.float32))  # type: ignore[index]
        del one.content["weights"]["w"]  # type: ignore[attr-defined]
        assert first(two.content) == 1.0
        assert first(worker.open(shared.parcel(messages[0], known)).content) == 1.0

    def test_a_record_of_one_message_stays_inside_it(self) -> None:
        common, own = weights(), [ConfigRecord({"site": node}) for node in range(3)]
        messages = [message(RecordDict({"weights": common, "own": each})) for each in own]
        shared, known, worker = SharedRecords(1, messages), set[int](), ReceivedRecords()
        opened = [worker.open(shared.parcel(each, known)) for each in messages]
        assert len(known) == 1
        assert [each.content["own"]["site"] for each in opened] == [0, 1, 2]  # type: ignore[index]

    def test_records_of_another_push_are_forgotten(self) -> None:
        worker = ReceivedRecords()
        for push in (1, 2):
            record = weights(push)
            messages = [message(RecordDict({"weights": record})) for _ in range(2)]
            shared, known = SharedRecords(push, messages), set[int]()
            parcels = [shared.parcel(each, known) for each in messages]
            assert [first(worker.open(parcel).content) for parcel in parcels] == [push, push]
        with pytest.raises(KeyError):
            worker.open(SharedRecords(3, messages).parcel(messages[0], {0}))

    def test_what_crosses_is_plain_data(self) -> None:
        """A parcel survives the pickling that carries it."""
        record = weights()
        messages = [message(RecordDict({"weights": record})) for _ in range(2)]
        parcel = SharedRecords(1, messages).parcel(messages[0], set())
        again: Any = pickle.loads(pickle.dumps(parcel))
        assert first(ReceivedRecords().open(again).content) == 1.0
