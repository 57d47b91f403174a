"""What was sent is what arrives; whatever else arrives is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client import guard_stream
from client.guard_stream import announcement, chunks, pack, received, unpack
from common.errors import BadInput


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard_stream, "CHUNK", 7)
        yield


@given(st.binary(max_size=100))
def test_a_message_arrives_as_it_was_sent(message: bytes) -> None:
    assert received(chunks(message), announcement(message), largest=100) == message


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_stream_is_refused(message: bytes, data: st.DataObject) -> None:
    pieces = list(chunks(message))
    where = data.draw(st.integers(0, len(pieces) - 1))
    how = data.draw(st.sampled_from(["drop", "twice", "flip"]))
    if how == "drop":
        del pieces[where]
    elif how == "twice":
        pieces.insert(where, pieces[where])
    else:
        place = data.draw(st.integers(0, len(pieces[where]) - 1))
        changed = bytearray(pieces[where])
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        pieces[where] = bytes(changed)
    with pytest.raises(BadInput, match="stream: "):
        received(pieces, announcement(message))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_dict_or_refused(content: bytes) -> None:
    try:
        unpack(content)
    except BadInput as error:
        assert str(error).startswith("stream: ")  # noqa: PT017 - either outcome is right


def test_a_record_dict_survives_bit_for_bit() -> None:
    value = np.array([0.1, -0.0, 1e-40, 3e38], np.float32)
    content = RecordDict(
        {
            "weights": ArrayRecord({"b": Array(value), "a": Array(value[:0])}),
            "plan": ConfigRecord({"text": "ä", "whole": 3, "flag": True, "bytes": b"\0", "list": [1.5]}),
            "numbers": MetricRecord({"x": 1.5}),
        }
    )
    found = unpack(pack(content))
    assert found == content
    assert found["weights"]["b"].numpy().tobytes() == value.tobytes()
    assert pack(found) == pack(content)
