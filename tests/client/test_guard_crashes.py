"""Replays, and guards that are killed: the ledger verifies, and no round is trained or paid for twice (P9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.guard import Guard, GuardSettings, socket_of
from client.guard_stream import TRAIN_METHOD, pack
from common.errors import PolicyRefusal, RunFailed
from common.privacy.ledger.details import Settled
from common.study import Study
from common.study_file import parse_study
from common.wire import pack_plan, raise_refusal
from tests.client.guards import ask, entries, guard_process, site_folder, train
from tests.client.samples import plan_of, weights_of
from tests.tiny import tiny_study_text


@pytest.fixture
def settings() -> Iterator[GuardSettings]:
    """A site's folder."""
    with site_folder() as made:
        yield made


@pytest.fixture
def study(tiny_base: Path) -> Study:
    """The tiny study."""
    return parse_study(tiny_study_text(tiny_base, tiny_base), "tiny")


def reply(settings: GuardSettings, study: Study, number: int = 1, shift: float = 0.0) -> bytes:
    """A round's reply as bytes; raises what the guard refuses with."""
    weights = {name: value + np.float32(shift) for name, value in weights_of(study, number).items()}
    content = ask(settings, TRAIN_METHOD, pack_plan(plan_of(study, number), weights))
    raise_refusal(content)
    return pack(content)


def kinds(settings: GuardSettings) -> list[str]:
    return [str(entry.kind) for entry in entries(settings)]


def test_p09_a_replay_is_answered_bit_for_bit_without_a_new_entry(settings: GuardSettings, study: Study) -> None:
    with Guard(settings):
        first, paid = reply(settings, study), entries(settings)
        assert reply(settings, study) == first
    with Guard(settings):  # nor does a new start forget
        assert reply(settings, study) == first
        assert entries(settings) == paid


def test_p09_other_weights_for_the_round_are_refused(settings: GuardSettings, study: Study) -> None:
    with Guard(settings):
        first, paid = reply(settings, study), kinds(settings)
        with pytest.raises(PolicyRefusal, match="another plan"):
            reply(settings, study, shift=0.5)
        assert kinds(settings).count("reserve") == paid.count("reserve")
        assert reply(settings, study) == first


def test_p09_an_evicted_round_is_refused(settings: GuardSettings, study: Study) -> None:
    with Guard(settings):
        train(settings, study, 1)
        train(settings, study, 2)
        paid = kinds(settings)
        with pytest.raises(PolicyRefusal, match="is over"):
            train(settings, study, 1)
        assert kinds(settings).count("reserve") == paid.count("reserve")


def test_p09_a_later_plan_evicts_when_it_arrives_whatever_becomes_of_it(
    settings: GuardSettings, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Guard(settings):
        train(settings, study, 1)

        def fail(*arguments: object) -> None:
            raise MemoryError

        monkeypatch.setattr("client.guard_site.LocalTrainer.train", fail)
        with pytest.raises(RunFailed, match="MemoryError"):
            train(settings, study, 2)
        with pytest.raises(PolicyRefusal, match="is over"):
            train(settings, study, 1)
        with pytest.raises(PolicyRefusal, match="was consumed"):
            train(settings, study, 2)


def test_p09_an_invented_round_evicts_nothing(settings: GuardSettings, study: Study) -> None:
    with Guard(settings):
        first = reply(settings, study)
        invented = replace(plan_of(study), round=99)
        with pytest.raises(PolicyRefusal, match="no round of the study"):
            raise_refusal(ask(settings, TRAIN_METHOD, pack_plan(invented, weights_of(study))))
        assert reply(settings, study) == first


def test_p09_a_round_is_answered_once_where_no_budget_is_charged(tiny_base: Path) -> None:
    """Where the coordinator adds the noise no reservation stops a second training; the store does."""
    text = tiny_study_text(tiny_base, tiny_base)
    study = parse_study(text, "tiny", ["privacy.unit=institution"])
    with site_folder(dataset={"unit": "institution", "one_row_per_person": False}) as settings, Guard(settings):
        first = reply(settings, study)
        assert reply(settings, study) == first
        with pytest.raises(PolicyRefusal, match="another plan"):
            reply(settings, study, shift=0.5)
        train(settings, study, 2)
        with pytest.raises(PolicyRefusal, match="is over"):
            reply(settings, study)


DIE: dict[str, str] = {
    "while training": "client.guard_site.LocalTrainer.train = die",
    "between training and storing": "client.guard_site.ReplyStore.keep = die",
    "between storing and settling": "client.consent.StudyConsent.settle = die",
}

Crash = Callable[[str], None]


@pytest.fixture
def crash(settings: GuardSettings, study: Study) -> Crash:
    """Kill a guard (SIGKILL) at a point of the first round."""

    def kill(where: str) -> None:
        with guard_process(settings, DIE[where]) as process:
            with pytest.raises(RunFailed, match="gave no reply"):
                train(settings, study)
            assert process.wait(30) == -9
        assert (settings.directory.path / "reached").exists()
        assert kinds(settings) == ["open", "reserve", "reserve"]  # verified, and the round is paid for

    return kill


@pytest.mark.parametrize("where", list(DIE)[:2])
def test_p09_a_crash_before_storing_consumes_the_round(
    crash: Crash, settings: GuardSettings, study: Study, where: str
) -> None:
    crash(where)
    with Guard(settings):
        with pytest.raises(PolicyRefusal, match="was consumed"):
            train(settings, study)
        assert "settle" not in kinds(settings)  # open, and so counted in full
        assert train(settings, study, 2).round == 2


def test_p09_a_crash_between_storing_and_settling_still_answers(
    crash: Crash, settings: GuardSettings, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash("between storing and settling")

    def never(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("client.guard_site.LocalTrainer.train", never)
    with Guard(settings):
        first = reply(settings, study)
        found = entries(settings)
        assert [str(entry.kind) for entry in found] == ["open", "reserve", "reserve", "settle"]
        last = found[-1].details
        assert isinstance(last, Settled)
        assert last.outcome == "completed"
        assert found[-1].mechanism == found[-2].mechanism
        assert train(settings, study).head == found[-1].head
        assert reply(settings, study) == first
        assert entries(settings) == found


def test_a_guard_starts_where_one_was_killed(settings: GuardSettings, study: Study) -> None:
    with guard_process(settings) as process:
        first = reply(settings, study)
        process.kill()
        assert process.wait(30) == -9
    assert socket_of(settings.directory).exists()
    with Guard(settings):
        assert reply(settings, study) == first
        assert train(settings, study, 2).round == 2
    assert kinds(settings).count("settle") == 2
