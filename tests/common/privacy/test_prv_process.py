"""The process beside the accountant: its answers in the form that its parent reads."""

from __future__ import annotations

import io
import json
import sys

import pytest

from common.privacy import prv_process


def test_answers_bounds_and_deltas_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history = [[2.0, 1.0, 1]]
    questions = [
        {"history": history, "delta": 1e-5, "delta_error": 1e-8},
        {"history": history, "epsilon": 1.0, "delta_error": 1e-10},
    ]
    monkeypatch.setattr(prv_process, "_limit_memory", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"eps_error": 0.01, "questions": questions})))
    prv_process.main()
    (lower, estimate, upper), (delta,) = json.loads(capsys.readouterr().out)
    assert lower < estimate < upper
    assert 0 < delta < 0.1
