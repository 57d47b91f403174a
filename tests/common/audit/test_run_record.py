"""Run records are read as the coordinator writes them, and anything else is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audit.run_record import RunEvidence, WitnessedHead, read_run, read_witness
from common.errors import BadInput
from common.privacy.ledger.details import Head
from common.privacy.mechanism import NotPrivate, SampledGaussian
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory

HEAD = Head(sequence=4, hash="e" * 64)
SITES = (
    SiteRound("north", SampledGaussian(0.02, 1.0, 50), 1.5, True, 0.25),
    SiteRound("south", NotPrivate("privacy.enabled = false"), None, False, 0.5, "no reply"),
)


def _written(folder: Path) -> RunDirectory:
    run = RunDirectory(folder / "run")
    run.run_identifier()
    for number in (1, 2):
        run.mark_started(number)
        run.witness(number, {"north": HEAD})
        run.add_round(RoundRecord(number, "train", 50, SITES, None, 10, 10, {"round": 1.0}))
    run.mark_started(3)
    return run


def test_what_the_coordinator_writes_is_read(tmp_path: Path) -> None:
    run = _written(tmp_path)
    found = read_run(run.path)
    assert found.run == run.run_identifier()
    assert (found.started, found.finished) == (3, False)
    assert [each.round for each in found.rounds] == [1, 2]
    assert found.witness is not None
    assert found.witness.heads == (WitnessedHead(1, "north", HEAD), WitnessedHead(2, "north", HEAD))
    for read, written in zip(found.rounds[1].sites, SITES, strict=True):
        assert (read.site, read.mechanism, read.epsilon, read.replied) == (
            written.site,
            written.mechanism,
            written.epsilon,
            written.replied,
        )
    run.result.write_text("{}", encoding="utf-8")
    assert read_run(run.path).finished


def test_a_line_cut_short_at_the_end_is_left_out(tmp_path: Path) -> None:
    run = _written(tmp_path)
    for name in ("rounds.jsonl", "witness.jsonl"):
        with (run.path / name).open("a", encoding="utf-8") as stream:
            stream.write('{"round": 3, "si')
    found = read_run(run.path)
    assert len(found.rounds) == 2
    assert found.witness is not None
    assert len(found.witness.heads) == 2


def test_a_run_without_a_witness_has_none(tmp_path: Path) -> None:
    run = _written(tmp_path)
    (run.path / "witness.jsonl").unlink()
    assert read_run(run.path).witness is None


def _line(**changes: object) -> str:
    record = RoundRecord(3, "train", 50, SITES, None, 10, 10).to_json()
    return json.dumps(record | changes)


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("run.json", "[]", "must be an object"),
        ("run.json", "{", "is not JSON"),
        ("run.json", '{"run": 3}', "must be an object with the text `run`"),
        ("rounds.jsonl", "{\n" + _line(), "line 1"),
        ("rounds.jsonl", _line(round=0), "round = 0"),
        ("rounds.jsonl", _line(round=True), "round = True"),
        ("rounds.jsonl", _line(sites={}), "sites: must be a list"),
        ("rounds.jsonl", _line(sites=[3]), "must be an object"),
        ("rounds.jsonl", _line(sites=[{"site": "a", "replied": 1}]), "replied true or false"),
        ("rounds.jsonl", _line() + "\n" + _line(), "rounds must rise"),
        ("rounds.jsonl", _line().replace('"site": "south"', '"site": "north"'), "a name stands twice"),
        ("rounds.jsonl", _line().replace("1.5", "NaN"), "epsilon = nan"),
        ("rounds.jsonl", _line().replace("1.5", "-1"), "epsilon = -1"),
        ("rounds.jsonl", _line().replace("sampled_gaussian", "magic"), "mechanism"),
        ("witness.jsonl", '{"round": 1, "heads": {"north": {"sequence": 1}}}', "sequence and a hash"),
        ("witness.jsonl", '{"heads": {}}', "round = None"),
        ("witness.jsonl", "{\n", "line 1"),
        ("witness.jsonl", "no JSON", "line 1"),
    ],
)
def test_a_damaged_record_is_bad_input(tmp_path: Path, file: str, text: str, part: str) -> None:
    run = _written(tmp_path)
    (run.path / file).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=part) as caught:
        read_run(run.path)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_bad_input(tmp_path: Path) -> None:
    for name in ("run.json", "rounds.jsonl"):
        run = _written(tmp_path)
        (run.path / name).unlink()
        with pytest.raises(BadInput, match="cannot be read"):
            read_run(run.path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_witness(tmp_path / "none")


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_bad_input(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    run = _written(tmp_path_factory.mktemp("run"))
    (run.path / "rounds.jsonl").write_bytes(data)
    with contextlib.suppress(BadInput):
        assert isinstance(read_run(run.path), RunEvidence)
