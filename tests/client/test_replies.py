"""A reply is on disk before it is sent, is given again bit for bit, and no round is answered anew (P9)."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.replies import Asked, ReplyStore
from common.errors import BadInput, PolicyRefusal, RunFailed
from common.privacy.ledger.details import Head
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.wire import Update

ASKED = Asked(study="5" * 64, run="a" * 32, round=3, plan="c" * 64)
LATER = replace(ASKED, round=4, plan="d" * 64)
UPDATE = Update(
    "north",
    3,
    {
        "b": np.array([[0.1, -0.0], [1e-40, 3e38]], np.float32),
        "a": np.float32([7]),
        "c": np.zeros((2, 0), np.float32),
    },
    SampledGaussian(0.1, 1.5, 4),
    Head(sequence=9, hash="e" * 64),
)


@pytest.fixture
def store(tmp_path: Path) -> ReplyStore:
    """A store that is opened anew, as after a crash."""
    return ReplyStore(tmp_path / "replies")


def same(one: Update | None, two: Update) -> bool:
    assert one is not None
    rest = (one.site, one.round, one.mechanism, one.head) == (two.site, two.round, two.mechanism, two.head)
    tensors = [
        [(name, value.shape, value.tobytes()) for name, value in each.weights.items()] for each in (one, two)
    ]
    return rest and tensors[0] == tensors[1]


def test_an_empty_store_says_nothing_and_makes_nothing(store: ReplyStore, tmp_path: Path) -> None:
    assert store.answer(ASKED) is None
    store.begin(ASKED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("update", [UPDATE, replace(UPDATE, head=None, mechanism=NotPrivate("off"))])
def test_p09_a_reply_is_given_again_bit_for_bit_after_a_crash(
    store: ReplyStore, tmp_path: Path, update: Update
) -> None:
    store.keep(ASKED, update)
    store.begin(ASKED)
    assert same(ReplyStore(tmp_path / "replies").answer(ASKED), update)


def test_p09_another_plan_for_the_round_is_refused(store: ReplyStore) -> None:
    store.keep(ASKED, UPDATE)
    with pytest.raises(PolicyRefusal, match="answered for another plan"):
        store.answer(replace(ASKED, plan="0" * 64))


def test_p09_a_later_plan_evicts_the_reply_and_the_round_stays_over(store: ReplyStore, tmp_path: Path) -> None:
    store.keep(ASKED, UPDATE)
    assert store.answer(LATER) is None
    assert same(store.answer(ASKED), UPDATE)
    store.begin(LATER)
    with pytest.raises(PolicyRefusal, match="round 3: is over, round 4"):
        store.answer(ASKED)
    assert store.answer(LATER) is None
    (file,) = (tmp_path / "replies").iterdir()
    assert UPDATE.weights["b"].tobytes() not in file.read_bytes()
    store.keep(LATER, replace(UPDATE, round=4))
    assert same(store.answer(LATER), replace(UPDATE, round=4))


def test_p09_one_reply_of_a_study_is_kept_and_another_runs_round_stays_answered(store: ReplyStore) -> None:
    other = replace(ASKED, run="b" * 32, round=1)
    store.keep(ASKED, UPDATE)
    store.begin(other)
    store.keep(other, replace(UPDATE, round=1))
    with pytest.raises(PolicyRefusal, match="no longer kept"):
        store.answer(ASKED)
    assert store.answer(LATER) is None
    assert same(store.answer(other), replace(UPDATE, round=1))
    elsewhere = replace(ASKED, study="6" * 64)
    store.begin(elsewhere)
    assert same(store.answer(other), replace(UPDATE, round=1))


def test_p09_a_reply_that_cannot_be_read_is_no_leave_to_train_again(store: ReplyStore, tmp_path: Path) -> None:
    store.keep(ASKED, UPDATE)
    (file,) = (tmp_path / "replies").iterdir()
    whole = file.read_bytes()
    for content in (b"", whole[:40], whole[:-1], b"\xff" * len(whole), whole.replace(b"asked", b"xsked")):
        file.write_bytes(content)
        with pytest.raises(RunFailed, match="cannot be read"):
            store.answer(ASKED)


def test_p22_replies_are_their_owners_alone(store: ReplyStore, tmp_path: Path) -> None:
    store.keep(ASKED, UPDATE)
    folder = tmp_path / "replies"
    (file,) = folder.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, file)] == [0o700, 0o600]
    file.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        store.answer(ASKED)
