"""Round records survive their JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.evaluation import Evaluation, evaluate_logits
from common.privacy.mechanism import Mechanism, NotPrivate, SampledGaussian
from server.records import RoundRecord, SiteRound

_mechanisms = st.one_of(
    st.just(NotPrivate("privacy.enabled = false")),
    st.builds(SampledGaussian, st.floats(0.001, 1), st.floats(0.1, 100), st.integers(1, 1000)),
)
_thousandths = st.integers(0, 10**6).map(lambda value: value / 1000)


def some_evaluation() -> Evaluation:
    """An evaluation of six examples in two domains."""
    logits = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    return evaluate_logits(logits, np.array([0, 1, 0, 1, 1, 0]), ["a", "a", "a", "b", "b", "b"])


@st.composite
def records(draw: st.DrawFn) -> RoundRecord:
    """A record with any number of sites, scored or not."""
    site = st.builds(
        SiteRound,
        site=st.text(min_size=1, max_size=8),
        mechanism=_mechanisms,
        epsilon=st.none() | st.floats(0, 100),
        replied=st.booleans(),
        seconds=_thousandths,
        reason=st.text(max_size=20),
    )
    return RoundRecord(
        round=draw(st.integers(1, 10**5)),
        phase=draw(st.sampled_from(["warm-start", "train"])),
        steps=draw(st.integers(1, 100)),
        sites=tuple(draw(st.lists(site, max_size=4))),
        evaluation=draw(st.sampled_from([None, some_evaluation()])),
        bytes_sent=draw(st.integers(0, 10**12)),
        bytes_received=draw(st.integers(0, 10**12)),
        seconds=draw(st.dictionaries(st.sampled_from(["train", "evaluate", "round"]), _thousandths)),
    )


@given(records())
def test_a_record_survives_its_json(record: RoundRecord) -> None:
    assert RoundRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("mechanism", [NotPrivate("for comparison"), SampledGaussian(0.1, 1.0, 3)])
def test_the_mechanism_is_recorded_as_what_it_is(mechanism: Mechanism) -> None:
    record = RoundRecord(1, "train", 3, (SiteRound("a", mechanism, None, True, 1.0),), None, 0, 0)
    assert RoundRecord.from_json(record.to_json()).sites[0].mechanism == mechanism


@pytest.mark.parametrize("missing", ["round", "phase", "steps", "sites", "evaluation", "bytes_sent", "seconds"])
def test_a_record_without_one_of_its_keys_is_not_one(missing: str) -> None:
    value = RoundRecord(1, "train", 3, (), None, 0, 0).to_json()
    del value[missing]
    with pytest.raises(KeyError):
        RoundRecord.from_json(value)


def test_a_false_figure_is_not_read_back() -> None:
    value = RoundRecord(1, "train", 3, (), some_evaluation(), 0, 0).to_json()
    value["evaluation"]["overall"]["accuracy"] = 0.123
    with pytest.raises(Exception, match="accuracy"):
        RoundRecord.from_json(value)
