"""The local engine: Flower's grid over worker processes that answer, fail, die and leave nothing behind.

Workers run the ClientApp of this very module, which does what the message says.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from common.errors import RunFailed
from deploy.local_engine import LocalGrid

THIS = "tests.deploy.test_local_engine"
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

app = ClientApp()


@app.query()
def _do(message: Message, context: Context) -> Message:
    config = message.content["do"]
    what = str(config["what"])
    if what == "raise":
        raise LookupError("nothing there")
    if what == "exit":
        raise SystemExit(3)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(600)
    record = context.state.get("count")
    count = int(record["count"]) + 1 if isinstance(record, ConfigRecord) else 1
    context.state["count"] = ConfigRecord({"count": count})
    answer: dict[str, int] = {
        "pid": os.getpid(),
        "partition": int(context.node_config["partition-id"]),
        "of": int(context.node_config["num-partitions"]),
        "count": count,
        "ignores-interrupt": int(signal.getsignal(signal.SIGINT) is signal.SIG_IGN),
    }
    return Message(RecordDict({"said": ConfigRecord(answer)}), reply_to=message)


@pytest.fixture(scope="module")
def grid() -> Iterator[LocalGrid]:
    """Five sites on two workers."""
    with LocalGrid(5, 2, 1, client_app=THIS) as made:
        yield made


def questions(grid: LocalGrid, what: str = "answer", nodes: list[int] | None = None) -> list[Message]:
    """One question for each node."""
    content = RecordDict({"do": ConfigRecord({"what": what})})
    return [Message(content, node, "query") for node in nodes or grid.get_node_ids()]


def said(reply: Message) -> dict[str, int]:
    """What a site answered."""
    record = reply.content["said"]
    return {name: int(value) for name, value in record.items()}  # type: ignore[union-attr, arg-type]


def by_partition(replies: list[Message]) -> dict[int, dict[str, int]]:
    """Answers by the partition of the site."""
    return {answer["partition"]: answer for answer in map(said, replies)}


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pids: set[int]) -> set[int]:
    """Processes that are still there after half a minute."""
    deadline = time.monotonic() + 30
    while (left := {pid for pid in pids if alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_every_site_answers_and_knows_its_place(grid: LocalGrid) -> None:
    replies = grid.send_and_receive(questions(grid))
    assert sorted(by_partition(replies)) == [0, 1, 2, 3, 4]
    assert {said(reply)["of"] for reply in replies} == {5}


def test_work_is_done_in_worker_processes_and_a_site_stays_at_its_worker(grid: LocalGrid) -> None:
    first, second = (by_partition(grid.send_and_receive(questions(grid))) for _ in range(2))
    pids = {partition: answer["pid"] for partition, answer in first.items()}
    assert os.getpid() not in pids.values()
    assert len(set(pids.values())) == 2
    assert pids == {partition: answer["pid"] for partition, answer in second.items()}


def test_a_sites_state_is_its_own_and_lasts(grid: LocalGrid) -> None:
    before = by_partition(grid.send_and_receive(questions(grid)))
    grid.send_and_receive(questions(grid, nodes=[grid.get_node_ids()[2]]))
    after = by_partition(grid.send_and_receive(questions(grid)))
    more = {partition: after[partition]["count"] - before[partition]["count"] for partition in before}
    assert more == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}


def test_replies_name_their_question_and_come_once(grid: LocalGrid) -> None:
    ids = grid.push_messages(questions(grid))
    assert len(set(ids)) == 5
    found: list[Message] = []
    deadline = time.monotonic() + 120
    while len(found) < 5 and time.monotonic() < deadline:
        found += grid.pull_messages(ids)
    assert sorted(reply.metadata.reply_to_message_id for reply in found) == sorted(ids)
    assert list(grid.pull_messages(ids)) == []


def test_workers_leave_ctrl_c_to_the_coordinator(grid: LocalGrid) -> None:
    assert {said(reply)["ignores-interrupt"] for reply in grid.send_and_receive(questions(grid))} == {1}


def test_an_exception_becomes_an_error_reply_and_the_worker_goes_on(grid: LocalGrid) -> None:
    pids = {said(reply)["pid"] for reply in grid.send_and_receive(questions(grid))}
    replies = grid.send_and_receive(questions(grid, "raise"))
    assert len(replies) == 5
    assert all(reply.has_error() for reply in replies)
    assert {reply.error.reason for reply in replies} == {"LookupError: nothing there"}
    assert {said(reply)["pid"] for reply in grid.send_and_receive(questions(grid))} == pids


@POSIX
def test_a_worker_that_is_killed_ends_the_run_with_a_reason_instead_of_a_hang() -> None:
    with LocalGrid(2, 2, 1, client_app=THIS) as grid:
        grid.push_messages(questions(grid, "die", [grid.get_node_ids()[1]]))
        with pytest.raises(RunFailed, match=r"a worker process ended unexpectedly \(exit code -?\d+\); if memory"):
            grid.send_and_receive(questions(grid, nodes=[grid.get_node_ids()[1]]), timeout=120)


def test_a_worker_that_exits_ends_the_run_with_a_reason() -> None:
    with LocalGrid(1, 1, 1, client_app=THIS) as grid, pytest.raises(RunFailed, match="ended unexpectedly"):
        grid.send_and_receive(questions(grid, "exit"), timeout=120)


@POSIX
def test_work_for_a_worker_that_died_while_idle_ends_the_run() -> None:
    with LocalGrid(1, 1, 1, client_app=THIS) as grid:
        (reply,) = grid.send_and_receive(questions(grid))
        os.kill(said(reply)["pid"], signal.SIGKILL)
        assert not wait_until_gone({said(reply)["pid"]})
        with pytest.raises(RunFailed, match="ended unexpectedly"):
            grid.send_and_receive(questions(grid), timeout=120)


@POSIX
def test_leaving_the_grid_stops_workers_even_in_the_middle_of_work() -> None:
    with LocalGrid(2, 2, 1, client_app=THIS) as grid:
        pids = {said(reply)["pid"] for reply in grid.send_and_receive(questions(grid))}
        assert len(pids) == 2
        grid.push_messages(questions(grid, "sleep"))
    assert not wait_until_gone(pids)


def test_waiting_ends_at_the_timeout() -> None:
    with LocalGrid(2, 2, 1, client_app=THIS) as grid:
        first, second = grid.get_node_ids()
        grid.send_and_receive(questions(grid))
        slow = questions(grid, "sleep", [first])
        assert grid.send_and_receive(slow, timeout=0.5) == []
        assert len(grid.send_and_receive(questions(grid, nodes=[second]), timeout=120)) == 1


def test_there_are_no_more_workers_than_sites() -> None:
    with LocalGrid(1, 8, 1, client_app=THIS) as grid:
        assert len(grid._workers) == 1


def test_nothing_to_wait_for_is_no_trouble(grid: LocalGrid) -> None:
    assert grid.send_and_receive([]) == []
    assert list(grid.pull_messages(["unknown"])) == []
