"""What the operator's side makes of a coordinator that is busy, or says no."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsResponse

from common.errors import RunFailed
from deploy.federation import control
from deploy.federation.control import Control
from deploy.federation.coordinator_directory import CoordinatorDirectory


class _Busy:
    """Answers with ``status`` a number of times, then properly."""

    def __init__(self, status: int, times: int) -> None:
        self.status, self.left, self.asked = status, times, 0

    def _answer(self, request: Any) -> Any:
        self.asked += 1
        if self.asked <= self.left:
            sent = httpx.Request("POST", "https://coordinator/v1/control/list-runs")
            answer = httpx.Response(self.status, text="locked", request=sent)
            raise httpx.HTTPStatusError("refused", request=sent, response=answer)
        return ListRunsResponse()

    ListRuns = StopRun = _answer


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(control, "_PATIENCE_SECONDS", 0.5)


def test_a_question_is_asked_again_while_the_database_is_locked(federation: CoordinatorDirectory) -> None:
    busy = _Busy(500, 3)
    assert Control(busy, federation).runs() == []  # type: ignore[arg-type]
    assert busy.asked == 4
    with pytest.raises(RunFailed, match="HTTP 500"):
        Control(_Busy(500, 10**6), federation).runs()  # type: ignore[arg-type]


def test_a_refusal_is_final_and_what_changes_something_is_asked_once(federation: CoordinatorDirectory) -> None:
    refusing, busy = _Busy(403, 9), _Busy(500, 9)
    with pytest.raises(RunFailed, match="HTTP 403"):
        Control(refusing, federation).runs()  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match="HTTP 500"):
        Control(busy, federation).stop(1)  # type: ignore[arg-type]
    assert refusing.asked == busy.asked == 1
