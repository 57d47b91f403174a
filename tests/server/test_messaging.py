"""Asking the sites: replies are taken as they come, late and foreign ones dropped, nothing is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import server.messaging
from common.errors import BadInput, PolicyRefusal, RunFailed
from common.study import Study
from common.wire import TRAIN, SiteDescription, pack_description, pack_refusal, unpack_plan
from server.messaging import Reply, connected_sites, replies

RUN = "0123456789abcdef" * 2

Answer = Callable[[Message], RecordDict | Error | None]


class ScriptedGrid:
    """As much of Flower's grid as the coordinator uses; gives one reply a pull, the last question's first."""

    def __init__(self, answer: Answer, nodes: Iterable[int] = (5, 6, 7, 8)) -> None:
        """``answer`` makes the reply to a message, or None for a site that says nothing."""
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.answer = answer
        self.nodes = list(nodes)
        self.questions: dict[str, Message] = {}
        self.pulls = 0

    def get_node_ids(self) -> list[int]:
        """All nodes."""
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Keep the messages and number them."""
        numbered = {}
        for message in messages:
            identifier = f"{len(self.questions) + len(numbered)}"
            message.metadata.__dict__["_message_id"] = identifier
            numbered[identifier] = message
        self.questions |= numbered
        return list(numbered)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """At most one reply."""
        self.pulls += 1
        for identifier in sorted(message_ids, key=int, reverse=True):
            question = self.questions[identifier]
            said = self.answer(question)
            if said is not None:
                return [Message(said, reply_to=question)]
        return []


def node_of(message: Message) -> int:
    """The node that a message is for."""
    return int(message.metadata.dst_node_id)


def asked(grid: ScriptedGrid, timeout: float = 30.0) -> list[Reply]:
    """Ask all nodes and collect the replies."""
    return list(replies(grid, TRAIN, RecordDict(), grid.nodes, timeout))  # type: ignore[arg-type]  # enough of a grid


def described(name: str = "site", **facts: Any) -> Answer:
    """Every site describes itself; the later the node, the lower its partition."""

    def answer(message: Message) -> RecordDict:
        node = node_of(message)
        usual = {"name": f"{name}-{node}", "partition": 8 - node, "declared_size": 10, "weight": 10.0}
        usual |= {"epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 1.0, **facts}
        return pack_description(SiteDescription(**usual))

    return answer


def test_every_node_is_asked_once_and_answers_come_as_they_arrive() -> None:
    grid = ScriptedGrid(lambda message: RecordDict())
    found = asked(grid)
    assert [reply.node for reply in found] == [8, 7, 6, 5]
    assert all(reply.content is not None and reply.error is None and reply.seconds >= 0 for reply in found)
    assert sorted(map(node_of, grid.questions.values())) == grid.nodes
    assert {m.metadata.message_type for m in grid.questions.values()} == {TRAIN}


def test_a_reply_that_does_not_come_in_time_is_left_out() -> None:
    grid = ScriptedGrid(lambda message: None if node_of(message) == 6 else RecordDict())
    assert [reply.node for reply in asked(grid, timeout=0.5)] == [8, 7, 5]


def test_nobody_answers() -> None:
    assert asked(ScriptedGrid(lambda message: None), timeout=0.2) == []


def test_a_reply_to_another_question_is_dropped() -> None:
    grid = ScriptedGrid(lambda message: RecordDict(), nodes=[5])
    early = asked(grid)
    assert len(early) == 1
    late = Message(RecordDict(), reply_to=grid.questions["0"])

    class Confused(ScriptedGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            return [late, late, *super().pull_messages(message_ids)]

    confused = Confused(lambda message: RecordDict(), nodes=[6])
    confused.questions = dict(grid.questions)
    assert [reply.node for reply in asked(confused)] == [6]


def test_an_error_reply_is_told_by_its_last_line() -> None:
    error = Error(2, "Traceback:\n  many\n  lines\nValueError: too much\n")
    (reply,) = asked(ScriptedGrid(lambda message: error, nodes=[5]))
    assert reply.content is None
    assert isinstance(reply.error, RunFailed)
    assert str(reply.error) == "a site failed: ValueError: too much"


def test_an_error_without_a_reason_is_told_too() -> None:
    (reply,) = asked(ScriptedGrid(lambda message: Error(0, ""), nodes=[5]))
    assert str(reply.error) == "a site failed: no reason given"


def test_a_refusal_is_the_sites_own_error() -> None:
    (reply,) = asked(ScriptedGrid(lambda message: pack_refusal(PolicyRefusal("no")), nodes=[5]))
    assert reply.content is None
    assert isinstance(reply.error, PolicyRefusal)
    assert str(reply.error) == "no"


def test_no_reply_is_kept_once_the_next_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.messaging, "_POLL_SECONDS", 0.0)
    alive: list[weakref.ref[Any]] = []
    most = 0

    def answer(message: Message) -> RecordDict:
        content = RecordDict({"weights": ArrayRecord({"w": Array(np.zeros(1000, np.float32))})})
        alive.append(weakref.ref(content))
        return content

    nodes = list(range(2, 42))
    grid = ScriptedGrid(answer, nodes)
    grid_replies = replies(grid, TRAIN, RecordDict(), nodes, 60)  # type: ignore[arg-type]  # enough of a grid
    for reply in grid_replies:
        del reply
        most = max(most, sum(reference() is not None for reference in alive))
    assert len(alive) == 40
    assert most <= 2


def test_sites_come_in_the_order_of_their_partitions(tiny_study: Study) -> None:
    grid = ScriptedGrid(described())
    sites = connected_sites(grid, tiny_study, RUN)  # type: ignore[arg-type]  # enough of a grid
    assert list(sites) == [8, 7, 6, 5]
    assert [site.partition for site in sites.values()] == [0, 1, 2, 3]


def test_a_description_is_asked_without_weights(tiny_study: Study) -> None:
    grid = ScriptedGrid(described())
    connected_sites(grid, tiny_study, RUN)  # type: ignore[arg-type]  # enough of a grid
    plan, weights = unpack_plan(grid.questions["0"].content)
    assert plan.study == tiny_study
    assert weights == {}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (lambda m: pack_refusal(PolicyRefusal("no")), PolicyRefusal, "no"),
        (lambda m: Error(2, "KeyError: 3"), RunFailed, "a site failed: KeyError: 3"),
        (lambda m: RecordDict(), BadInput, "carries no description"),
        (
            lambda m: None if node_of(m) == 6 else described()(m),
            RunFailed,
            "1 of 4 sites did not say who they are",
        ),
    ],
)
def test_a_site_that_does_not_describe_itself_ends_the_run(
    tiny_study: Study, monkeypatch: pytest.MonkeyPatch, answer: Answer, kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr(server.messaging, "_DESCRIPTION_SECONDS", 0.5)
    with pytest.raises(kind, match=message):
        connected_sites(ScriptedGrid(answer), tiny_study, RUN)  # type: ignore[arg-type]  # enough of a grid


def test_two_sites_of_one_name_are_refused(tiny_study: Study) -> None:
    grid = ScriptedGrid(lambda message: described(name="same")(grid.questions["0"]))
    with pytest.raises(BadInput, match="two sites have the same name"):
        connected_sites(grid, tiny_study, RUN)  # type: ignore[arg-type]  # enough of a grid


def test_too_few_nodes_end_the_run(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.messaging, "_REGISTRATION_SECONDS", 0.2)
    with pytest.raises(RunFailed, match=r"3 of 4 sites connected within 0 s"):
        connected_sites(ScriptedGrid(described(), nodes=[5, 6, 7]), tiny_study, RUN)  # type: ignore[arg-type]
