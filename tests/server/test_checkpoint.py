"""The checkpoint: what is written is what is read; anything else is refused; a crash leaves the old one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from common.errors import BadInput
from common.weights import Weights
from server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server.optimizer import ServerState

_tensor = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(width=32, allow_nan=False),
)
_weights = st.dictionaries(st.sampled_from(["a", "network.b.weight", "x/y", ""]), _tensor, max_size=3)


def some_checkpoint(round_number: int = 3) -> Checkpoint:
    """A checkpoint with something in every field."""
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    return Checkpoint(round_number, weights, ServerState(2, weights, weights), weights, 2, 0.5, 0.75, (1,))


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Both checkpoints are equal, tensors to the bit."""
    for groups in zip(_groups(one), _groups(other), strict=True):
        assert groups[0].keys() == groups[1].keys()
        for name, value in groups[0].items():
            found = groups[1][name]
            assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert _facts(one) == _facts(other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    weights=_weights,
    best=_weights,
    first=_weights,
    second=_weights,
    loss=st.floats(allow_nan=False),
    consumed=st.lists(st.integers(1, 9), max_size=3),
)
def test_round_trip_is_the_identity(
    tmp_path: Path,
    weights: Weights,
    best: Weights,
    first: Weights,
    second: Weights,
    loss: float,
    consumed: list[int],
) -> None:
    checkpoint = Checkpoint(7, weights, ServerState(5, first, second), best, 6, loss, 0.5, tuple(consumed))
    save_checkpoint(checkpoint, tmp_path / "latest.safetensors")
    assert_same(load_checkpoint(tmp_path / "latest.safetensors"), checkpoint)


def test_a_fresh_state_survives(tmp_path: Path) -> None:
    fresh = Checkpoint(0, {"w": np.zeros(2, np.float32)})
    save_checkpoint(fresh, tmp_path / "c")
    assert_same(load_checkpoint(tmp_path / "c"), fresh)


def test_tensors_that_are_not_contiguous_are_written_as_they_read(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_checkpoint(Checkpoint(1, {"w": turned}), tmp_path / "c")
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "c").weights["w"], turned)


def test_no_checkpoint_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no checkpoint to resume from; start the study anew without --resume"):
        load_checkpoint(tmp_path / "latest.safetensors")
    with pytest.raises(BadInput, match="no checkpoint to resume from"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "c"
    save_checkpoint(some_checkpoint(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInput, match="is not a checkpoint of Hanse, or is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\xff" * 64, b"\x00" * 1000, b'{"round": 3}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(BadInput, match="is not a checkpoint of Hanse, or is damaged"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"hanse": "{"}, {"hanse": "[]"}, {"hanse": "{}"}, {"hanse": '{"format": 1}'}],
)
def test_safetensors_of_another_program_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weights/w": np.zeros(2, np.float32)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(BadInput, match="is not a checkpoint of Hanse, or is damaged"):
        load_checkpoint(tmp_path / "c")


def test_a_tensor_of_an_unknown_group_is_refused(tmp_path: Path) -> None:
    facts = {"format": 1, "round": 1, "optimizer_steps": 0, "best_round": 0, "best_loss": 1.0}
    facts |= {"best_accuracy": 0.0, "consumed": []}
    save_file({"odd/w": np.zeros(2, np.float32)}, tmp_path / "c", metadata={"hanse": json.dumps(facts)})
    with pytest.raises(BadInput, match="is damaged"):
        load_checkpoint(tmp_path / "c")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "c", metadata={"hanse": '{"format": 99}'})
    with pytest.raises(BadInput, match="written by another version of Hanse"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("failing", ["server.checkpoint.save_file", "os.fsync", "pathlib.Path.replace"])
def test_a_failure_while_writing_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "c"
    save_checkpoint(some_checkpoint(3), path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(failing, full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(some_checkpoint(4), path)
    assert_same(load_checkpoint(path), some_checkpoint(3))
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


KILLED = """
import os, signal, sys
from pathlib import Path
import server.checkpoint
from tests.server.test_checkpoint import some_checkpoint

write = server.checkpoint.save_file
def killed(tensors, path, metadata):
    write(tensors, path, metadata=metadata)
    os.truncate(path, 50)
    os.kill(os.getpid(), signal.SIGKILL)

server.checkpoint.save_file = killed
server.checkpoint.save_checkpoint(some_checkpoint(4), Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_process_killed_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(some_checkpoint(3), path)
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert_same(load_checkpoint(path), some_checkpoint(3))


def _groups(checkpoint: Checkpoint) -> list[Weights]:
    optimizer = checkpoint.optimizer
    return [checkpoint.weights, checkpoint.best, optimizer.first_moment, optimizer.second_moment]


def _facts(checkpoint: Checkpoint) -> tuple[object, ...]:
    return (
        checkpoint.round,
        checkpoint.optimizer.steps,
        checkpoint.best_round,
        checkpoint.best_loss,
        checkpoint.best_accuracy,
        checkpoint.consumed,
    )
