"""Networks are loaded one at a time: transformers changes its own class meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from common.loading import load_network


def test_threads_that_load_at_once_leave_transformers_as_it_was(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loads are stretched so that without the lock they overlap, and each would restore what another had set."""
    before = PreTrainedModel.tie_weights
    load = AutoModelForSequenceClassification.from_pretrained.__func__
    during = []

    def slow(cls: type, *arguments: object, **named: object) -> object:
        during.append("in")
        time.sleep(0.05)
        found = load(cls, *arguments, **named)
        during.append("out")
        return found

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", classmethod(slow))
    config = AutoConfig.from_pretrained(str(tiny_base))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: load_network(tiny_base, config, "sequence-classification"), range(8)))
    assert during == ["in", "out"] * 8
    assert PreTrainedModel.tie_weights is before
