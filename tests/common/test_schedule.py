"""Rounds and steps follow from the plan alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.schedule import PlannedRound, planned_steps, schedule
from common.study import FederationSection, ModelSection, Study, StudySection, TaskSection
from common.wire import Phase


def study_of(warm: tuple[int, int], rounds: int, steps: int = 1, **federation: object) -> Study:
    return Study(
        study=StudySection(name="plan"),
        task=TaskSection(labels=["a", "b"]),
        model=ModelSection(warm_start_steps=warm[0], warm_start_rounds=warm[1]),
        federation=FederationSection(rounds=rounds, steps_per_round=steps, **federation),  # type: ignore[arg-type]
    )


def test_warm_start_first_then_the_rounds() -> None:
    assert schedule(study_of((5, 2), 2, 3)) == (
        PlannedRound(1, Phase.WARM_START, 3, 1.0),
        PlannedRound(2, Phase.WARM_START, 2, 1.0),
        PlannedRound(3, Phase.TRAIN, 3, 1.0),
        PlannedRound(4, Phase.TRAIN, 3, 1.0),
    )


def test_no_warm_start() -> None:
    assert [planned.phase for planned in schedule(study_of((0, 4), 3))] == [Phase.TRAIN] * 3


def test_a_linear_decay_falls_towards_zero_after_the_warm_start() -> None:
    study = study_of((2, 1), 4, server_learning_rate=2.0, server_learning_rate_decay="linear")
    assert [planned.server_learning_rate for planned in schedule(study)] == [1.0, 2.0, 1.5, 1.0, 0.5]


@given(
    st.integers(0, 50).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(1, max(1, steps)))),
    st.integers(0, 30),
    st.integers(1, 5),
)
def test_p03_every_planned_step_is_counted_and_none_twice(warm: tuple[int, int], rounds: int, steps: int) -> None:
    """The accountant's steps are those that the rounds take: warm start and rounds, each at least one."""
    study = study_of(warm, rounds, steps)
    planned = schedule(study)
    assert planned_steps(study) == warm[0] + rounds * steps == sum(one.steps for one in planned)
    assert [one.number for one in planned] == list(range(1, len(planned) + 1))
    assert all(one.steps >= 1 for one in planned)


@pytest.mark.parametrize("rows", [40, 400])
def test_p03_the_schedule_does_not_know_the_data(tiny_base: Path, tmp_path: Path, rows: int) -> None:
    from common.study_file import parse_study
    from tests.tiny import tiny_study_text, write_tiny_data

    data = write_tiny_data(tmp_path / "rows.csv", rows)
    study = parse_study(tiny_study_text(tiny_base, data), "tiny")
    assert planned_steps(study) == 2 + 2 * 2
