"""Turns at a guard: one works, one waits, nobody else."""

from __future__ import annotations

import threading
import time

import pytest

from client.guard_turn import Busy, Turns
from common.errors import RunFailed


def test_no_more_than_two_have_a_place() -> None:
    turns = Turns()
    with turns.place(), turns.place(), pytest.raises(Busy, match="ask again later"), turns.place():
        pass
    with turns.place():
        pass


def test_who_waits_beyond_its_time_is_turned_away_and_then_served() -> None:
    turns = Turns()
    with turns.job(60):
        refused: list[float] = []

        def late() -> None:
            started = time.monotonic()
            with pytest.raises(Busy), turns.job(0.2):
                pass
            refused.append(time.monotonic() - started)

        thread = threading.Thread(target=late)
        thread.start()
        thread.join(10)
        assert 0.2 <= refused[0] < 5
    with turns.job(60):
        turns.check()


def test_the_time_in_the_queue_counts_against_the_deadline() -> None:
    turns = Turns()
    told: list[Exception] = []

    def second() -> None:
        with turns.job(0.6):
            time.sleep(0.3)
            try:
                turns.check()
            except RunFailed as error:
                told.append(error)

    with turns.job(60):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.4)
    thread.join(10)
    assert "round_timeout" in str(told[0])


def test_a_stop_reaches_the_running_job_and_no_later_one() -> None:
    turns = Turns()
    assert not turns.stop()
    with turns.job(60):
        turns.check()
        assert turns.stop()
        with pytest.raises(RunFailed, match="operator stopped"):
            turns.check()
    with turns.job(60):
        turns.check()


def test_a_job_of_the_longest_time_is_one() -> None:
    with Turns().job(1e12):
        pass
