"""The Flower client answers every message: with a description, an update, or a refusal that tells nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import virtual
from client.app import app
from client.guard import Guard, socket_of
from client.site import Site
from common.environment import STATE_VARIABLE
from common.errors import BadInput, HanseError, PolicyRefusal, RunFailed
from common.model import build_classifier
from common.study import Study
from common.virtual_sites import virtual_sites
from common.wire import (
    DESCRIBE,
    TRAIN,
    pack_plan,
    pack_refusal,
    raise_refusal,
    unpack_description,
    unpack_update,
)
from tests.client.guards import site_folder
from tests.client.samples import NAME, weights_of
from tests.client.samples import plan_of as round_of


@pytest.fixture(autouse=True)
def _one_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_run_id", "_task_id", "_node_id"):  # Flower's messages name the process's task
        monkeypatch.setattr(TaskIdentity, name, 1)
    yield
    virtual._virtual_site.cache_clear()
    virtual._shared_classifier.cache_clear()


def context(partition: int) -> Context:
    return Context(
        run_id=1,
        node_id=10 + partition,
        node_config={"partition-id": partition},
        state=RecordDict(),
        run_config={},
    )


def ask(kind: str, content: RecordDict, partition: int = 0) -> RecordDict:
    reply = app(Message(content, 10 + partition, kind), context(partition))
    assert not reply.has_error()
    return reply.content


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))


def plan_of(study: Study, number: int = 2) -> RecordDict:
    return pack_plan(round_of(study, number), weights_of(study, number))


def test_a_description(tiny_study: Study) -> None:
    content = ask(DESCRIBE, plan_of(tiny_study), partition=2)
    assert set(content) == {"description"}
    assert unpack_description(content) == virtual.virtual_site(tiny_study, 2).describe(round_of(tiny_study))


def test_an_update(tiny_study: Study) -> None:
    content = ask(TRAIN, plan_of(tiny_study, 3), partition=1)
    assert set(content) == {"update", "weights"}
    update = unpack_update(content, build_classifier(tiny_study).weights())
    assert (update.site, update.round) == (virtual_sites(tiny_study).sites[1].name, 3)


@pytest.mark.parametrize("kind", [DESCRIBE, TRAIN])
def test_a_message_that_is_no_plan_is_refused(kind: str) -> None:
    content = ask(kind, RecordDict({"plan": ConfigRecord({"study": "{}"})}))
    with pytest.raises(BadInput, match="plan: study cannot be read"):
        raise_refusal(content)


def test_a_partition_that_does_not_exist_is_refused(tiny_study: Study) -> None:
    with pytest.raises(BadInput, match="there is no site number 10"):
        raise_refusal(ask(TRAIN, plan_of(tiny_study), partition=9))


def test_weights_that_do_not_fit_are_refused(tiny_study: Study) -> None:
    content = plan_of(tiny_study)
    content["weights"]["network.other"] = next(iter(content["weights"].values()))
    with pytest.raises(BadInput, match=r"network\.other"):
        raise_refusal(ask(TRAIN, content))


def test_a_refusal_keeps_its_kind(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Site, *arguments: object) -> None:
        raise PolicyRefusal("not on Sundays")

    monkeypatch.setattr(Site, "train", refuse)
    with pytest.raises(PolicyRefusal, match="not on Sundays"):
        raise_refusal(ask(TRAIN, plan_of(tiny_study)))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("stack expects each tensor to be equal size, but got [37] at entry 0"),
        IndexError("Target 7 is out of bounds"),
        KeyError("the patient from room nine"),
    ],
)
@pytest.mark.parametrize("kind", [DESCRIBE, TRAIN])
def test_p15_an_unforeseen_error_leaves_as_its_type_alone(
    tiny_study: Study, monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception
) -> None:
    """Flower would send the message of any exception to the coordinator, sizes, labels and texts included."""

    def fail(self: Site, *arguments: object) -> None:
        raise error

    monkeypatch.setattr(Site, "train" if kind == TRAIN else "describe", fail)
    content = ask(kind, plan_of(tiny_study))
    assert set(content) == {"refusal"}
    assert set(content["refusal"]) == {"error", "message"}
    with pytest.raises(RunFailed) as caught:
        raise_refusal(content)
    said = str(caught.value)
    assert type(error).__name__ in said
    assert not [word for word in ("37", "7", "patient", "room") if word in said]
    assert isinstance(caught.value, HanseError)


class TestRelay:
    """With a guard in the node's configuration the client passes bytes on, and knows nothing of models."""

    def relayed(self, kind: str, content: RecordDict, socket: Path) -> RecordDict:
        context = Context(
            run_id=1, node_id=5, node_config={"guard": str(socket)}, state=RecordDict(), run_config={}
        )
        return app(Message(content, 5, kind), context).content

    def test_it_passes_messages_to_the_guard_and_its_answers_back(self, tiny_study: Study) -> None:
        with site_folder() as settings, Guard(settings) as guard:
            described = self.relayed(DESCRIBE, plan_of(tiny_study, 1), guard.socket)
            assert unpack_description(described).name == NAME
            trained = self.relayed(TRAIN, plan_of(tiny_study, 1), guard.socket)
            assert unpack_update(trained, weights_of(tiny_study, 1)).round == 1
            full = tiny_study.model.model_copy(update={"trainable": "full"})
            refused = self.relayed(TRAIN, plan_of(tiny_study.model_copy(update={"model": full})), guard.socket)
            with pytest.raises(PolicyRefusal, match=r"model\.trainable"):
                raise_refusal(refused)

    def test_its_own_refusal_is_one_as_any_other(self, tmp_path: Path, tiny_study: Study) -> None:
        content = self.relayed(TRAIN, plan_of(tiny_study), tmp_path / "none")
        assert content == pack_refusal(RunFailed("the site's guard gave no reply: UNAVAILABLE"))

    def test_it_loads_no_model_code(self, tiny_study: Study, tmp_path: Path) -> None:
        """In a process of its own: what Flower starts at the site answers without torch."""
        from client.guard_stream import pack

        message = tmp_path / "message"
        message.write_bytes(pack(plan_of(tiny_study, 1)))
        with site_folder() as settings, Guard(settings):
            ended = subprocess.run(
                [sys.executable, "-c", _RELAY, str(message), str(socket_of(settings.directory))],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines() == ["update,weights", "[]"]


_RELAY = """
import sys
from pathlib import Path
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
for name in ("_run_id", "_task_id", "_node_id"):
    setattr(TaskIdentity, name, 1)
from client.app import app
from client.guard_stream import unpack
content = unpack(Path(sys.argv[1]).read_bytes())
node = {"guard": sys.argv[2]}
context = Context(run_id=1, node_id=5, node_config=node, state=RecordDict(), run_config={})
reply = app(Message(content, 5, "train"), context)
print(",".join(sorted(reply.content)))
ours = ("client.guard", "client.site", "client.trainer", "common.wire", "common.study")
print([name for name in sys.modules if name.partition(".")[0] in {"torch", "transformers"} or name in ours])
"""
