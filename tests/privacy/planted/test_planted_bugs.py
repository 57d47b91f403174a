"""The audit of the audit: every planted bug is seen by the check that AUDIT.md names, and the clean loop by none.

False alarms: each family of statistical tests blames a correct loop once in a million runs, here and in the
tests of the bugs, and the component bound once in a million; the sensitivity tests never do. Power: each of
these bugs moves its statistic by many times what the threshold asks (a smallest factor of 1.25, in the rate).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from common.audit.hypothesis_tests import StatisticalTest
from common.audit.noise_tests import independence_tests, scale_tests
from common.audit.sampler_tests import count_batches, sampler_tests
from common.study import Study
from common.study_file import parse_study
from deploy.audit import noise_and_sampler as n
from deploy.audit.sensitivity import sensitivity_tests
from deploy.audit.site_copy import SiteCopy, chosen_site, site_copy
from deploy.audit.white_box import component_figure, observe
from tests.privacy.planted.bugs import PLANTED, Check, Planted
from tests.tiny import tiny_rows, tiny_study_text

RATE = 1e-6
"""False alarms of a family of tests, and of the component bound."""


def _study(base: Path, folder: Path, *more: str) -> Study:
    """Two sites; people have four rows each, where they are asked for."""
    rows = [f"{text},{label},person {number // 4}" for number, (text, label, _) in enumerate(tiny_rows(400))]
    file = folder / "rows.csv"
    file.write_text("\n".join(["text,label,person", *rows]) + "\n", encoding="utf-8")
    text = tiny_study_text(base, file).replace('partition = "column"', 'partition = "iid"')
    text = text.replace('column = "region"', 'column = ""').replace("sites = 4", "sites = 2")
    return parse_study(text, "planted", ["federation.rounds=8", "federation.steps_per_round=5", *more])


@pytest.fixture(scope="module")
def examples(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteCopy:
    study = _study(tiny_base, tmp_path_factory.mktemp("examples"))
    return site_copy(study, *chosen_site(study))


@pytest.fixture(scope="module")
def persons(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteCopy:
    more = ("privacy.unit=group", "privacy.group_column=person", "privacy.rows_per_group=4")
    study = _study(tiny_base, tmp_path_factory.mktemp("persons"), *more)
    return site_copy(study, *chosen_site(study))


def alarms(check: Check, examples: SiteCopy, persons: SiteCopy) -> list[str]:
    """What one check of the audit, by itself, has to say against the loop."""
    match check:
        case "noise":
            samples = n.noise_samples(examples)
            return _failed(scale_tests(n.by_tensor(samples), examples.claimed.noise_multiplier, RATE))
        case "independence":
            return _failed(independence_tests(n.by_draw(n.noise_samples(examples)), RATE))
        case "lattice":
            return _failed([n.lattice_test(n.noise_samples(examples), examples)])
        case "sampler":
            batches = n.sampled_batches(examples, examples.texts.units, 200)
            return _failed(sampler_tests(count_batches(batches), examples.claimed.sample_rate, RATE))
        case "empty batches":
            few = n.few_units(examples)
            batches = n.sampled_batches(few, few.facts.declared_size, 400)
            return _failed(sampler_tests(count_batches(batches), few.claimed.sample_rate, RATE))
        case "steps":
            few = n.few_units(examples)
            taken = n.sampled_batches(few, few.facts.declared_size, 400)
            return _failed([n.steps_test(len(taken), 400)])
        case "sensitivity":
            return _failed(sensitivity_tests(examples))
        case "persons":
            return _failed(sensitivity_tests(persons))
        case "component":
            seen = observe(examples, 300, seed=5)
            claim = (examples.epsilon, examples.delta)
            bound = component_figure(seen, examples.claimed, claim, 1 - RATE)
            return [bound.method] if bound.exceeds else []


def _failed(tests: object) -> list[str]:
    assert isinstance(tests, list | tuple)
    return [test.name for test in tests if isinstance(test, StatisticalTest) and not test.passed]


EVERY_CHECK: tuple[Check, ...] = (
    "noise", "independence", "lattice", "sampler", "empty batches", "steps", "sensitivity", "persons", "component",
)  # fmt: skip


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_the_clean_loop_raises_no_alarm(check: Check, examples: SiteCopy, persons: SiteCopy) -> None:
    assert alarms(check, examples, persons) == []


CASES = [
    pytest.param(planted, check, id=f"{planted.number:02d}-{planted.name}-{check}".replace(" ", "_"))
    for planted in PLANTED
    for check in planted.seen_by
]


@pytest.mark.parametrize(("planted", "check"), CASES)
def test_p12_p13_a_planted_bug_is_seen(
    planted: Planted, check: Check, examples: SiteCopy, persons: SiteCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.plant(monkeypatch)
    assert alarms(check, examples, persons), f"bug {planted.number} ({planted.name}) passed check {check}"


def test_at_least_seventeen_of_the_twenty_are_seen() -> None:
    static = {13, 15, 19}  # test_static_bugs.py
    assert len({planted.number for planted in PLANTED} | static) >= 17
    assert all(planted.seen_by for planted in PLANTED)
