"""Metrics over HTTP: who reaches them, and that no scraper can hold or break the process."""

from __future__ import annotations

import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from common import metrics_server
from common.errors import BadInput, RunFailed
from common.metrics_server import serving_on_address, serving_on_socket


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("hanse_things", "Things.", registry=made).inc(3)
    return made


def asked(connection: socket.socket, request: bytes = b"GET /metrics HTTP/1.0\r\n\r\n") -> str:
    """What comes back until the server closes."""
    connection.settimeout(10)
    connection.sendall(request)
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def ask_socket(path: Path, request: bytes = b"GET /metrics HTTP/1.0\r\n\r\n") -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        return asked(connection, request)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("m") / "metrics.sock"
    assert len(str(path)) <= 100
    return path


def test_a_socket_is_its_owners_alone_and_gone_afterwards(place: Path) -> None:
    with serving_on_socket(registry(), place):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert "hanse_things_total 3.0" in ask_socket(place)
    assert not place.exists()


def test_a_socket_that_a_killed_process_left_is_replaced_and_a_file_is_not(place: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place))
    left.close()
    with serving_on_socket(registry(), place):
        assert "200 OK" in ask_socket(place)
    file = place.with_name("file.sock")
    file.write_text("kept")
    with pytest.raises(RunFailed, match="cannot listen"), serving_on_socket(registry(), file):
        pass
    assert file.read_text() == "kept"


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="100 bytes"), serving_on_socket(registry(), tmp_path / ("x" * 100)):
        pass


def test_an_address_is_served_and_a_taken_one_refused() -> None:
    with serving_on_address(registry(), "127.0.0.1", 0) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            assert "hanse_things_total 3.0" in asked(connection)
        with pytest.raises(RunFailed, match="cannot listen"), serving_on_address(registry(), "127.0.0.1", port):
            pass


def test_nothing_but_get_is_answered(place: Path) -> None:
    with serving_on_socket(registry(), place):
        assert "405" in ask_socket(place, b"POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n").splitlines()[0]
        assert "hanse_things" not in ask_socket(place, b"\x00\xff\r\n\r\n")
        assert "200 OK" in ask_socket(place)


def test_silent_scrapers_do_not_keep_the_others_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are places: turned away at once, the places free again after the time limit."""
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.5)
    with serving_on_socket(registry(), place):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for each in silent:
            each.connect(str(place))
        ended = threading.Event()
        for _ in range(100):
            try:
                if "200 OK" in ask_socket(place):
                    break
            except OSError:
                pass
            ended.wait(0.1)
        else:
            raise AssertionError("nobody was served any more")
        for each in silent:
            each.close()


def test_one_too_many_is_turned_away_at_once(place: Path) -> None:
    """While every place is held by somebody silent, for seconds to come."""
    with serving_on_socket(registry(), place), ExitStack() as held:
        for _ in range(metrics_server._CONNECTIONS):
            held.enter_context(socket.socket(socket.AF_UNIX)).connect(str(place))
        started = time.monotonic()
        with socket.socket(socket.AF_UNIX) as late:
            late.settimeout(metrics_server._SECONDS)
            late.connect(str(place))
            assert late.recv(1) == b""
        assert time.monotonic() - started < metrics_server._SECONDS / 2


class _Failing(Collector):
    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        raise ValueError("row 7: the patient said")


def test_p15_an_error_while_collecting_tells_its_type_alone(
    place: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = CollectorRegistry()
    failing.register(_Failing())
    with serving_on_socket(failing, place):
        reply = ask_socket(place)
    assert "500 Internal Server Error" in reply
    assert "patient" not in reply + caplog.text + capfd.readouterr().err
    assert "ValueError" in caplog.text
