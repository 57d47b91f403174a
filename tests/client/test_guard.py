"""The guard over its real socket: describe, train, refusals that keep their kind, and streams that are none."""

from __future__ import annotations

import hashlib
import logging
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BoolValue, BytesValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.guard import Guard, GuardSettings, socket_of
from client.guard_relay import ask_guard
from client.guard_service import CANCEL_METHOD
from client.guard_stream import CHUNK, DESCRIBE_METHOD, SERVICE, TRAIN_METHOD, announcement, chunks, pack
from client.site import Site
from client.trainer import LocalTrainer
from common.errors import BadInput, BudgetExceeded, PolicyRefusal, RunFailed
from common.privacy.ledger.details import Refused, Settled
from common.privacy.ledger.records import approve_study
from common.study import Study
from common.study_file import parse_study
from common.wire import Update, pack_plan, raise_refusal, unpack_description
from tests.client.guards import ask, describe, entries, site_folder, train, write_policy
from tests.client.samples import DECLARED, NAME, plan_of, weights_of
from tests.client.test_guard_metrics import figures, key, scraped
from tests.tiny import tiny_study_text


@pytest.fixture
def settings() -> Iterator[GuardSettings]:
    """A site's folder."""
    with site_folder() as made:
        yield made


@pytest.fixture
def guard(settings: GuardSettings) -> Iterator[Guard]:
    """A guard that serves it."""
    with Guard(settings) as running:
        yield running


def study_of(base: Path, *overrides: str) -> Study:
    return parse_study(tiny_study_text(base, base), "tiny", overrides)


@pytest.fixture
def study(tiny_base: Path) -> Study:
    """The tiny study; its own data is of no account here."""
    return study_of(tiny_base)


def kinds(settings: GuardSettings) -> list[str]:
    return [str(entry.kind) for entry in entries(settings)]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The guard's own lines in the log."""
    return [record.message for record in caplog.records if record.name == "hanse.guard"]


class TestService:
    """What the guard does for a study that its policy agrees to."""

    def test_it_describes_its_site(self, guard: Guard, settings: GuardSettings, study: Study) -> None:
        found = unpack_description(describe(settings, study))
        assert (found.name, found.declared_size, found.epsilon) == (NAME, DECLARED, 8.0)

    def test_it_trains_and_pays(self, guard: Guard, settings: GuardSettings, study: Study) -> None:
        update = train(settings, study)
        found = entries(settings)
        assert [str(entry.kind) for entry in found] == ["open", "reserve", "reserve", "settle"]
        assert update.head == found[-1].head
        assert found[2].mechanism == update.mechanism
        assert train(settings, study, 2).round == 2
        assert any(np.any(update.weights[name] != start) for name, start in weights_of(study).items())

    def test_it_is_healthy(self, guard: Guard) -> None:
        with grpc.insecure_channel(f"unix:{guard.socket}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", SERVICE):
                found = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                assert found.status == health_pb2.HealthCheckResponse.SERVING

    def test_p22_socket_and_all_that_it_writes_are_its_owners_alone(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        train(settings, study)
        folder = settings.directory.path
        given = {settings.directory.policy, settings.data}
        made = [path for path in folder.rglob("*") if path not in given]
        assert stat.S_ISSOCK(guard.socket.stat().st_mode)
        assert {path.name for path in made} >= {"guard.sock", "ledger.db", "site.key", "data.key", "replies"}
        assert {path.name: oct(stat.S_IMODE(path.stat().st_mode) & 0o077) for path in made} == {
            path.name: "0o0" for path in made
        }

    def test_a_second_guard_in_the_folder_is_refused_and_the_first_goes_on(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        with pytest.raises(RunFailed, match="another guard serves"), Guard(settings):
            pass
        assert "description" in describe(settings, study)

    def test_a_guard_starts_again_where_one_was_stopped(self, settings: GuardSettings, study: Study) -> None:
        for _ in range(2):
            with Guard(settings):
                assert "description" in describe(settings, study)

    def test_an_open_folder_a_broken_policy_or_no_data_stops_it_at_the_start(
        self, settings: GuardSettings
    ) -> None:
        with pytest.raises(BadInput, match="no such file or folder"), Guard(replace(settings, data=Path("gone"))):
            pass
        settings.directory.path.chmod(0o755)
        with pytest.raises(BadInput, match="chmod 700"), Guard(settings):
            pass
        settings.directory.path.chmod(0o700)
        settings.directory.policy.write_text("[site]\n", encoding="utf-8")
        with pytest.raises(BadInput, match="policy"), Guard(settings):
            pass

    def test_a_changed_policy_binds_the_next_message(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        assert "description" in describe(settings, study)
        write_policy(settings.directory, allow={"approval": "required"})
        with pytest.raises(PolicyRefusal, match="approve") as caught:
            raise_refusal(describe(settings, study))
        approve_study(settings.directory.ledger(), "letters", str(caught.value).split()[-1].strip("`"))
        assert "description" in describe(settings, study)


class TestRefusals:
    """A refusal keeps its kind and tells nothing of the data."""

    def test_the_kinds_arrive(self, guard: Guard, settings: GuardSettings, study: Study, tiny_base: Path) -> None:
        with pytest.raises(BudgetExceeded, match="asked"):
            raise_refusal(describe(settings, study_of(tiny_base, "privacy.epsilon=9.0")))
        with pytest.raises(PolicyRefusal, match=r"model\.trainable"):
            raise_refusal(describe(settings, study_of(tiny_base, "model.trainable=full")))
        with pytest.raises(BadInput, match="plan: study cannot be read"):
            raise_refusal(ask(settings, TRAIN_METHOD, RecordDict({"plan": ConfigRecord({"study": "{}"})})))

    @pytest.mark.parametrize("method", ["train", "describe"])
    def test_p15_an_unforeseen_error_leaves_as_its_type_alone(
        self,
        guard: Guard,
        settings: GuardSettings,
        study: Study,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        method: str,
    ) -> None:
        def fail(self: Site, *arguments: object) -> None:
            raise IndexError("patient nine of 41 has label 7")

        monkeypatch.setattr(Site, method, fail)
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(RunFailed, match="IndexError in its own code") as caught,
        ):
            raise_refusal(ask(settings, method.title(), pack_plan(plan_of(study), weights_of(study))))
        assert len(logged(caplog)) == 1
        for told in (str(caught.value), caplog.text):
            assert not [word for word in ("patient", "41", "label 7") if word in told]

    def test_p15_what_is_wrong_with_the_data_is_for_the_operator_alone(
        self, guard: Guard, settings: GuardSettings, study: Study, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.data.write_text("text,label\ngood film,pos\n", encoding="utf-8")
        with pytest.raises(RunFailed) as caught:
            train(settings, study)
        assert str(caught.value) == "the site is not ready; its operator was told why"
        assert "rows.csv: row 1" in caplog.text
        assert "reserve" not in kinds(settings)

    def test_p15_a_refused_study_does_not_learn_whether_the_data_can_be_read(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        write_policy(settings.directory, allow={"approval": "required"})
        settings.data.unlink()
        with pytest.raises(PolicyRefusal, match="approve"):
            train(settings, study)

    def test_p15_a_base_that_the_policy_does_not_list_is_refused_unseen(
        self, guard: Guard, settings: GuardSettings, tiny_base: Path, tmp_path: Path
    ) -> None:
        write_policy(settings.directory, allow={"models": [str(tiny_base)]})
        for base in (tmp_path, tmp_path / "gone"):
            with pytest.raises(PolicyRefusal, match=r"model\.base = .*: policy allows"):
                raise_refusal(describe(settings, study_of(base)))
        last = entries(settings)[-1].details
        assert isinstance(last, Refused)
        assert last.code == "model-not-allowed"

    def test_p14_a_model_that_fails_the_preflight_is_not_reserved_for(
        self, guard: Guard, settings: GuardSettings, study: Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object) -> None:
            raise RunFailed("preflight: a parameter is not clipped")

        monkeypatch.setattr("client.preparation.require_preflight", fail)
        with pytest.raises(RunFailed, match="not clipped"):
            train(settings, study)
        assert "reserve" not in kinds(settings)


def sent(guard: Guard, pieces: list[bytes], metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """The status of a stream that was made by hand."""
    with grpc.insecure_channel(f"unix:{guard.socket}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{TRAIN_METHOD}")(iter(pieces), timeout=30, metadata=metadata)
        return call.code()


def piece(content: bytes) -> bytes:
    return bytes(BytesValue(value=content).SerializeToString())


def _announced(size: int, content: bytes) -> tuple[tuple[str, str], ...]:
    return (("hanse-size", str(size)), ("hanse-sha256", hashlib.sha256(content).hexdigest()))


MESSAGE = bytes(range(256)) * 8
STREAMS: dict[str, tuple[list[bytes], tuple[tuple[str, str], ...], str]] = {
    "no record dict": ([piece(MESSAGE)], announcement(MESSAGE), "holds no Flower RecordDict"),
    "no chunks": ([b"\xff\xff\xff"], announcement(MESSAGE), "is no BytesValue"),
    "truncated": ([piece(MESSAGE[:-1])], announcement(MESSAGE), "ends after 2047 of the 2048"),
    "empty": ([], announcement(MESSAGE), "ends after 0"),
    "longer than announced": ([piece(MESSAGE), piece(b"x")], announcement(MESSAGE), "goes on after"),
    "endless": ([piece(bytes(CHUNK))] * 8, _announced(CHUNK + 1, b""), "goes on after"),
    "another digest": ([piece(MESSAGE)], _announced(len(MESSAGE), b"other"), "its SHA-256 is not"),
    "too large": ([piece(MESSAGE)], _announced(2**31 + 1, MESSAGE), "must be at most 2147483647"),
    "a chunk too large": ([piece(bytes(CHUNK + 1))], announcement(bytes(CHUNK + 1)), "a chunk of"),
    "not announced": ([piece(MESSAGE)], (), "must be the size"),
    "a size that is none": (
        [piece(MESSAGE)],
        (("hanse-size", "-1"), announcement(MESSAGE)[1]),
        "must be the size",
    ),
    "no digest": ([piece(MESSAGE)], announcement(MESSAGE)[:1], "must be 64"),
}


class TestStreams:
    """A stream that is no message ends with one line in the log, and the guard goes on."""

    @pytest.mark.parametrize("name", STREAMS)
    def test_it_ends_with_invalid_argument(
        self, guard: Guard, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        pieces, metadata, why = STREAMS[name]
        assert sent(guard, pieces, metadata) is grpc.StatusCode.INVALID_ARGUMENT
        (line,) = logged(caplog)
        assert why in line
        refused = ask_guard(guard.socket, DESCRIBE_METHOD, RecordDict(), 30)
        with pytest.raises(BadInput, match="carries no plan"):
            raise_refusal(refused)

    def test_a_stream_broken_off_leaves_its_place_to_others(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        with grpc.insecure_channel(f"unix:{guard.socket}") as channel:
            never = threading.Event()

            def stuck() -> Iterator[bytes]:
                yield piece(b"x")
                never.wait(30)

            for _ in range(4):
                ask_train = channel.stream_stream(f"/{SERVICE}/{TRAIN_METHOD}")
                call = ask_train(stuck(), timeout=30, metadata=announcement(MESSAGE))
                time.sleep(0.2)
                call.cancel()
                time.sleep(0.2)
            never.set()
        assert "description" in describe(settings, study)

    def test_a_guard_may_be_set_to_less(self, settings: GuardSettings, study: Study) -> None:
        with Guard(replace(settings, largest_message=1000)):
            with pytest.raises(RunFailed, match="INVALID_ARGUMENT"):
                train(settings, study)
            assert not settings.directory.has_ledger()

    def test_a_message_of_many_chunks_arrives(self, guard: Guard) -> None:
        big = RecordDict({"plan": ConfigRecord({"study": "x" * (5 * CHUNK + 3)})})
        assert len(list(chunks(pack(big)))) == 6
        with pytest.raises(BadInput, match="plan: study cannot be read"):
            raise_refusal(ask_guard(guard.socket, TRAIN_METHOD, big, 30))


def long_study(base: Path, timeout: str) -> Study:
    """A study whose first round would take minutes."""
    steps = ["model.warm_start_steps=0", "federation.rounds=1", "federation.steps_per_round=20000"]
    return study_of(base, *steps, f"federation.round_timeout={timeout}")


def await_reservation(settings: GuardSettings) -> None:
    ends = time.monotonic() + 60
    while not (settings.directory.has_ledger() and kinds(settings).count("reserve") == 2):
        assert time.monotonic() < ends
        time.sleep(0.05)


def last_outcome(settings: GuardSettings) -> str:
    last = entries(settings)[-1].details
    assert isinstance(last, Settled)
    return str(last.outcome)


class TestTurns:
    """One job at a time, bounded by the plan's deadline and the operator's word."""

    def test_two_relays_that_ask_for_one_round_get_one_answer(
        self, guard: Guard, settings: GuardSettings, study: Study
    ) -> None:
        found: list[Update] = []
        threads = [threading.Thread(target=lambda: found.append(train(settings, study))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one, two = found
        assert all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)
        assert one.head == two.head
        assert kinds(settings).count("reserve") == 2  # the plan, and the round once

    def test_a_third_is_turned_away_at_once(self, guard: Guard, settings: GuardSettings, study: Study) -> None:
        with guard._turns.place(), guard._turns.place(), pytest.raises(RunFailed, match="RESOURCE_EXHAUSTED"):
            train(settings, study)
        assert train(settings, study).round == 1

    def test_p07_a_round_that_is_late_is_given_up_and_counts_in_full(
        self, guard: Guard, settings: GuardSettings, tiny_base: Path
    ) -> None:
        study = long_study(tiny_base, "3s")
        started = time.monotonic()
        with pytest.raises(RunFailed, match="round_timeout"):
            train(settings, study)
        assert time.monotonic() - started < 20
        assert last_outcome(settings) == "failed"
        assert entries(settings)[-1].mechanism == entries(settings)[-2].mechanism

    def test_p07_a_round_that_the_operator_stops_counts_in_full(
        self, guard: Guard, settings: GuardSettings, tiny_base: Path
    ) -> None:
        told: list[Exception] = []

        def asked() -> None:
            try:
                train(settings, long_study(tiny_base, "5m"))
            except RunFailed as error:
                told.append(error)

        thread = threading.Thread(target=asked)
        thread.start()
        await_reservation(settings)
        with grpc.insecure_channel(f"unix:{guard.socket}") as channel:
            cancel = channel.unary_unary(
                f"/{SERVICE}/{CANCEL_METHOD}",
                request_serializer=Empty.SerializeToString,
                response_deserializer=BoolValue.FromString,
            )
            assert cancel(Empty(), timeout=10).value
            thread.join(60)
            assert not cancel(Empty(), timeout=10).value
        assert "stopped the round" in str(told[0])
        assert last_outcome(settings) == "failed"


def test_a_relay_without_a_guard_refuses(settings: GuardSettings, study: Study) -> None:
    with pytest.raises(RunFailed, match="gave no reply: UNAVAILABLE"):
        train(settings, study)
    assert not socket_of(settings.directory).exists()


def test_p10_the_rows_of_a_person_are_capped_by_a_key_of_the_site(
    settings: GuardSettings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        f"good film {'and ' * row},positive,p{person}" for person in range(12) for row in range(person % 5 + 1)
    ]
    settings.data.write_text("\n".join(["text,label,who", *rows, ""]), encoding="utf-8")
    group = {"unit": "group", "one_row_per_person": False, "group_column": "who"}
    write_policy(settings.directory, dataset=group)
    overrides = ["privacy.unit=group", "privacy.group_column=who", "privacy.rows_per_group=2"]
    seen: list[Any] = []
    real = LocalTrainer.train

    def look(self: LocalTrainer, *arguments: Any) -> Any:
        seen.append(self._texts)
        return real(self, *arguments)

    monkeypatch.setattr(LocalTrainer, "train", look)
    with Guard(settings):
        train(settings, study_of(tiny_base, *overrides))
    assert seen[0].units == 12
    assert np.bincount(seen[0].persons).tolist() == [min(2, person % 5 + 1) for person in range(12)]


def test_its_metrics_follow_what_it_is_asked(settings: GuardSettings, study: Study) -> None:
    """A round, a replay of it, and a study that is refused."""
    longer = study.model_copy(update={"federation": study.federation.model_copy(update={"rounds": 90})})
    with Guard(settings):
        train(settings, study)
        train(settings, study)
        with pytest.raises((PolicyRefusal, BudgetExceeded)):
            train(settings, longer)
        found = figures(scraped(settings.directory))
    assert found[key("hanse_guard_requests_total", "train", "answered")] == 2
    assert found[key("hanse_guard_requests_total", "train", "refused")] == 1
