"""The study plan: its defaults hold, its canonical JSON is canonical, its digest names what is computed."""

from __future__ import annotations

import json
import tomllib
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_file import parse_study
from common.wire import Phase
from deploy.default_study import DEFAULT_STUDY

LEAST = {"study": {"name": "least"}, "task": {"labels": ["no", "yes"]}}
BASE = "0" * 64

OTHER_VALUES: dict[str, Any] = {
    "study.name": "another",
    "study.seed": 8,
    "task.kind": "token-classification",
    "task.labels": ["yes", "no"],
    "task.max_length": 65,
    "model.base": "owner/name@1234",
    "model.trainable": "head",
    "model.pooling": "cls",
    "model.warm_start_steps": 41,
    "model.warm_start_rounds": 5,
    "model.warm_start_learning_rate": 8.5,
    "model.lora_rank": 9,
    "model.lora_alpha": 17.0,
    "model.lora_targets": "all",
    "data.source": "hub:owner/name@1234",
    "data.text_column": "sentence",
    "data.label_column": "class",
    "data.partition": "iid",
    "data.column": "region",
    "data.sites": 5,
    "data.alpha": 0.6,
    "data.validation_fraction": 0.06,
    "data.test_fraction": 0.16,
    "data.validation_rows": 1001,
    "privacy.enabled": False,
    "privacy.unit": "group",
    "privacy.group_column": "person",
    "privacy.rows_per_group": 9,
    "privacy.epsilon": 7.0,
    "privacy.delta": 1e-6,
    "privacy.max_grad_norm": 1.5,
    "privacy.batch_size": 129,
    "federation.rounds": 11,
    "federation.steps_per_round": 2,
    "federation.strategy": "fedadam",
    "federation.server_learning_rate": 0.5,
    "federation.server_learning_rate_decay": "linear",
    "federation.server_momentum": 0.8,
    "federation.proximal_mu": 0.1,
    "federation.malicious_sites": 1,
    "federation.weighting": "equal",
    "federation.selection": "uniform",
    "federation.sites_per_round": 2,
    "federation.keep_updates": True,
    "federation.min_sites": 2,
    "federation.round_timeout": "31m",
    "federation.evaluate_every": 2,
    "training.optimizer": "adamw",
    "training.learning_rate": 0.9,
    "training.momentum": 0.5,
    "training.weight_decay": 0.1,
    "training.dropout": 0.1,
    "training.word_dropout": 0.1,
    "training.label_smoothing": 0.1,
    "training.clipping": "automatic",
    "training.adversarial_radius": 0.5,
    "training.physical_batch_size": 16,
    "training.precision": "float32",
}
"""A legal value other than the default for every key that the digest must cover."""

NOT_COVERED: dict[str, Any] = {
    "training.device": "cpu",
    "simulation.engine": "ray",
    "simulation.workers": 3,
    "simulation.gpus_per_site": 0.5,
}
"""Keys that say where a study is computed, not what."""


def least(**sections: dict[str, Any]) -> Study:
    """The smallest study, with more keys in its sections."""
    tree = {name: {**LEAST.get(name, {}), **sections.get(name, {})} for name in {*LEAST, *sections}}
    return Study.model_validate(tree)


def changed(key: str, value: Any) -> Study:
    """The smallest study with one key changed."""
    section, _, name = key.partition(".")
    return least(**{section: {name: value}})


def sections() -> dict[str, type[BaseModel]]:
    """The study's sections that are tables, by name."""
    fields = Study.model_fields
    return {name: field.annotation for name, field in fields.items() if not get_args(field.annotation)}


def test_every_default_is_a_valid_value() -> None:
    # pydantic does not check defaults: the least study spelled out must pass as if a person had typed it
    study = least()
    assert Study.model_validate(study.model_dump()) == study
    assert parse_study('[study]\nname="least"\n[task]\nlabels=["no","yes"]', where="least") == study


def test_the_default_study_is_valid() -> None:
    study = parse_study(DEFAULT_STUDY, where="default")
    assert study.privacy.enabled
    assert study.federation.min_sites <= study.data.sites


def test_the_default_study_says_nothing_but_what_it_names() -> None:
    tree = tomllib.loads(DEFAULT_STUDY)
    parsed = parse_study(DEFAULT_STUDY, where="default").model_dump(mode="json")
    assert {s: {k: parsed[s][k] for k in keys} for s, keys in tree.items()} == tree


def test_other_values_cover_every_key() -> None:
    keys = {f"{section}.{name}" for section, model in sections().items() for name in model.model_fields}
    assert keys == OTHER_VALUES.keys() | NOT_COVERED.keys()


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_digest_changes_with(key: str) -> None:
    assert changed(key, OTHER_VALUES[key]).digest(BASE) != least().digest(BASE)


@pytest.mark.parametrize("key", NOT_COVERED)
def test_digest_does_not_change_with(key: str) -> None:
    assert changed(key, NOT_COVERED[key]) != least()
    assert changed(key, NOT_COVERED[key]).digest(BASE) == least().digest(BASE)


def test_digest_changes_with_the_base_weights() -> None:
    assert least().digest("0" * 64) != least().digest("1" * 64)


def test_digest_changes_with_what_is_said_of_a_site() -> None:
    digests = set()
    for more in ({}, {"epsilon": 1.0}, {"weight": 2.0}, {"declared_size": 100}):
        tree = {**LEAST, "site": [{"name": "north", **more}]}
        digests.add(Study.model_validate(tree).digest(BASE))
    assert len(digests | {least().digest(BASE)}) == 5


def test_digest_does_not_depend_on_where_local_folders_lie(tmp_path: Any) -> None:
    here = least(model={"base": str(tmp_path / "a")}, data={"source": str(tmp_path / "a.csv")})
    there = least(model={"base": str(tmp_path / "b")}, data={"source": str(tmp_path / "b.csv")})
    assert here.digest(BASE) == there.digest(BASE)
    assert here.digest(BASE) != least().digest(BASE)


def test_digest_is_hexadecimal_sha256() -> None:
    digest = least().digest(BASE)
    assert len(digest) == 64
    int(digest, 16)


@given(st.permutations(list(OTHER_VALUES)[1:]), st.randoms())
def test_canonical_json_does_not_depend_on_the_order_of_keys(keys: list[str], chooser: Any) -> None:
    chosen = [key for key in keys if chooser.random() < 0.5]
    first, second = (_tree_in_order(order) for order in (chosen, chosen[::-1]))
    one, other = Study.model_validate(first), Study.model_validate(second)
    assert one.to_json() == other.to_json()
    assert one.digest(BASE) == other.digest(BASE)


def test_canonical_json_has_sorted_keys_and_no_spaces() -> None:
    text = least().to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("key", OTHER_VALUES | NOT_COVERED)
def test_canonical_json_reads_back(key: str) -> None:
    study = changed(key, (OTHER_VALUES | NOT_COVERED)[key])
    assert Study.from_json(study.to_json()) == study


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"study":{"name":"x"},"task":{"labels":["a"]}}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Study.from_json(text)


def test_a_study_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        least().privacy.epsilon = 100.0  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(("size", "delta"), [(10, 1e-5), (10_000, 1e-5), (35_000, 1e-5), (10**6, 10**-6.6)])
def test_delta_auto_is_a_power_of_the_declared_size_and_never_above_1e_5(size: int, delta: float) -> None:
    assert least().delta_of(size) == pytest.approx(delta)
    assert least(privacy={"delta": 1e-7}).delta_of(size) == 1e-7


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("0.5m", 30)])
def test_round_timeout_in_seconds(text: str, seconds: float) -> None:
    assert least(federation={"round_timeout": text}).federation.round_timeout_seconds == seconds


def test_a_site_takes_the_studys_epsilon_unless_it_has_its_own() -> None:
    study = Study.model_validate({**LEAST, "site": [{"name": "north", "epsilon": 2.0}]})
    assert study.epsilon_of("north") == 2.0
    assert study.epsilon_of("south") == study.privacy.epsilon
    assert study.site_section("south").weight is None


@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 20), st.integers(1, 9))
def test_schedule_takes_exactly_the_planned_steps(
    warm_steps: int, warm_rounds: int, rounds: int, each: int
) -> None:
    study = least(
        model={"warm_start_steps": warm_steps, "warm_start_rounds": warm_rounds},
        federation={"rounds": rounds, "steps_per_round": each},
    )
    planned = schedule(study)
    warm = [p.steps for p in planned if p.phase is Phase.WARM_START]
    assert [p.number for p in planned] == list(range(1, len(planned) + 1))
    assert sum(warm) == warm_steps
    assert not warm or max(warm) - min(warm) <= 1
    assert [p.steps for p in planned if p.phase is Phase.TRAIN] == [each] * rounds
    assert planned_steps(study) == warm_steps + rounds * each


def test_linear_decay_falls_from_the_full_rate_towards_zero_after_the_warm_start() -> None:
    study = least(
        model={"warm_start_steps": 2, "warm_start_rounds": 2},
        federation={"rounds": 4, "server_learning_rate": 2.0, "server_learning_rate_decay": "linear"},
    )
    assert [p.server_learning_rate for p in schedule(study)] == [1.0, 1.0, 2.0, 1.5, 1.0, 0.5]


def _tree_in_order(keys: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key in keys:
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = OTHER_VALUES[key]
    return {**tree, "task": {**tree.get("task", {}), **LEAST["task"]}, "study": LEAST["study"]}
