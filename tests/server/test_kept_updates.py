"""Kept rounds: whole or not at all, read back as they were aggregated, and bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import server.kept_updates
from common.errors import BadInput
from common.schedule import PlannedRound, schedule
from common.study import Study
from common.study_file import parse_study
from common.weights import Weights
from common.wire import Phase
from server.kept_updates import UpdateKeeper, check_room, forget_rounds_after, kept_rounds, read_kept_updates
from server.optimizer import ServerState
from tests.tiny import tiny_study_text

START: Weights = {"a": np.zeros((2, 3), np.float32), "b": np.asarray(1.0, np.float32)}


def planned(number: int) -> PlannedRound:
    """A round of the study proper."""
    return PlannedRound(number, Phase.TRAIN, 2, 0.5)


def moved(by: float) -> Weights:
    """The start, moved by a number everywhere."""
    return {name: np.asarray(value + by, np.float32) for name, value in START.items()}


def keep(folder: Path, number: int = 1) -> None:
    """A round of two sites, one asked for more than the other; a third did not reply."""
    keeper = UpdateKeeper(folder, planned(number))
    keeper.add("north", moved(1.0), 0.25)
    keeper.add("a site: of odd name/..", moved(2.0), 0.5)
    keeper.finish(START, ServerState(3, moved(5.0), moved(6.0)))


def test_a_round_is_read_back_with_the_shares_of_those_that_replied(tmp_path: Path, tiny_study: Study) -> None:
    keep(tmp_path / "updates")
    found = read_kept_updates(tmp_path / "updates", 1, tiny_study)
    assert found.kept.shares == {"north": pytest.approx(1 / 3), "a site: of odd name/..": pytest.approx(2 / 3)}
    assert (found.phase, found.server_learning_rate, found.optimizer.steps) == (Phase.TRAIN, 0.5, 3)
    for name, value in START.items():
        assert found.kept.start[name].shape == value.shape
        assert np.array_equal(found.kept.updates["north"][name], value + 1)
        assert np.array_equal(found.optimizer.second_moment[name], value + 6)


def test_nothing_counts_before_the_round_is_finished(tmp_path: Path, tiny_study: Study) -> None:
    keeper = UpdateKeeper(tmp_path / "updates", planned(1))
    keeper.add("north", moved(1.0), 1.0)
    assert kept_rounds(tmp_path / "updates") == []
    with pytest.raises(BadInput, match="was not kept"):
        read_kept_updates(tmp_path / "updates", 1, tiny_study)


def test_a_round_that_is_asked_again_begins_anew(tmp_path: Path, tiny_study: Study) -> None:
    cut_off = UpdateKeeper(tmp_path / "updates", planned(1))
    for site in ("x", "y", "z"):
        cut_off.add(site, moved(9.0), 1.0)
    keep(tmp_path / "updates")
    assert set(read_kept_updates(tmp_path / "updates", 1, tiny_study).kept.updates) == {
        "north",
        "a site: of odd name/..",
    }
    assert len(list((tmp_path / "updates" / "000001").iterdir())) == 3


def test_rounds_after_the_last_finished_one_are_forgotten(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        keep(tmp_path / "updates", number)
    forget_rounds_after(tmp_path / "updates", 1)
    assert kept_rounds(tmp_path / "updates") == [1]
    forget_rounds_after(tmp_path / "nothing", 0)


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    keep(tmp_path / "updates")
    for path in (tmp_path / "updates", *(tmp_path / "updates").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_damaged_file_is_named(tmp_path: Path, tiny_study: Study) -> None:
    keep(tmp_path / "updates")
    (tmp_path / "updates" / "000001" / "00000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadInput, match=r"00000\.safetensors: is not a kept round"):
        read_kept_updates(tmp_path / "updates", 1, tiny_study)


def test_p19_under_central_privacy_an_update_counts_as_it_was_summed(
    tmp_path: Path, tiny_base: Path, tiny_data: Path
) -> None:
    """Clipped over all tensors together, and with the share of all institutions, whoever replied."""
    study = parse_study(
        tiny_study_text(tiny_base, tiny_data), "tiny", ["privacy.unit=institution", "privacy.max_grad_norm=2.0"]
    )
    keep(tmp_path / "updates")
    kept = read_kept_updates(tmp_path / "updates", 1, study).kept
    assert kept.shares == {"north": 0.25, "a site: of odd name/..": 0.5}
    norms = [
        np.sqrt(sum(np.square(update[name] - value).sum() for name, value in START.items()))
        for update in kept.updates.values()
    ]
    assert norms == pytest.approx([2.0, 2.0], rel=1e-6)  # sqrt(7) and 2 sqrt(7) before


def test_a_study_whose_updates_would_not_fit_is_refused_before_any_site_is_asked(
    tmp_path: Path, tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = len(schedule(tiny_study))
    check_room(tiny_study, tmp_path / "updates", START, rounds)
    monkeypatch.setattr(server.kept_updates, "MOST_BYTES", rounds * (4 + 3) * 28 - 1)
    with pytest.raises(BadInput, match=r"federation\.keep_updates = true"):
        check_room(tiny_study, tmp_path / "updates", START, rounds)
