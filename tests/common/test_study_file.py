"""Reading a study: overrides, round trips, and errors that name the key, the value and the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import BadInput, NotYet
from common.study import Study
from common.study_file import parse_study, read_study, write_study

LEAST = '[study]\nname = "least"\n[task]\nlabels = ["no", "yes"]\n'


def parsed(text: str = "", *overrides: str) -> Study:
    """The smallest study with more TOML behind it."""
    return parse_study(LEAST + text, where="study.toml", overrides=overrides)


def refusal(text: str = "", *overrides: str, kind: type[BadInput] = BadInput) -> list[str]:
    """The lines of the error that the smallest study with more TOML behind it gives."""
    with pytest.raises(kind) as caught:
        parsed(text, *overrides)
    assert type(caught.value) is kind
    return str(caught.value).splitlines()


FAULTS: list[tuple[str, str]] = [
    # unknown keys, with a suggestion where one is near
    ("privacy.epsilo=3", "privacy.epsilo = 3: unknown key; did you mean epsilon?"),
    ("privcy.epsilon=3", "unknown key; did you mean privacy?"),
    ("federation.round=3", "federation.round = 3: unknown key; did you mean rounds?"),
    ("simulation.zzzz=1", "simulation.zzzz = 1: unknown key; known keys here: engine, gpus_per_site, workers"),
    # wrong types: nothing is converted behind the person's back
    ('privacy.epsilon="8"', 'privacy.epsilon = "8": must be a valid number'),
    ("privacy.epsilon=true", "privacy.epsilon = true: must be a valid number"),
    ("federation.rounds=2.5", "federation.rounds = 2.5: must be a valid integer"),
    ("federation.rounds=ten", 'federation.rounds = "ten": must be a valid integer'),
    ("privacy.enabled=1", "privacy.enabled = 1: must be a valid boolean"),
    ("privacy.enabled=no", 'privacy.enabled = "no": must be a valid boolean'),
    ("task.labels=yes", 'task.labels = "yes": must be a valid list'),
    ("task.labels=['a', 2]", "task.labels.2 = 2: must be a valid string"),
    ("study.name=3", "study.name = 3: must be a valid string"),
    ("model.base=[]", "model.base = []: must be a valid string"),
    # out of range
    ("privacy.epsilon=-3", "privacy.epsilon = -3: must be greater than 0"),
    ("privacy.epsilon=0", "privacy.epsilon = 0: must be greater than 0"),
    ("privacy.epsilon=inf", "privacy.epsilon = inf: must be a finite number"),
    ("privacy.epsilon=nan", "privacy.epsilon = nan: must be"),
    ("privacy.delta=1.0", "privacy.delta = 1.0: must be 'auto' or must be less than 1"),
    ("privacy.delta=1e-15", "privacy.delta = 1e-15: must be 'auto' or must be at least 1e-12"),
    ("privacy.delta=car", "privacy.delta = \"car\": must be 'auto' or must be a valid number"),
    ("privacy.batch_size=0", "privacy.batch_size = 0: must be at least 1"),
    ("privacy.max_grad_norm=0.0", "privacy.max_grad_norm = 0.0: must be greater than 0"),
    ("study.seed=-1", "study.seed = -1: must be at least 0"),
    ("study.seed=4294967296", "study.seed = 4294967296: must be less than 4294967296"),
    ("study.name=../x", 'study.name = "../x": may hold letters'),
    ("study.name=", 'study.name = "": may hold letters'),
    ("task.labels=['one']", "task.labels = ['one']: needs at least 2 entries"),
    ("task.labels=['one', 'one']", "task.labels = ['one', 'one']: labels must be distinct and not empty"),
    ("task.labels=['one', ' ']", "task.labels = ['one', ' ']: labels must be distinct and not empty"),
    ("task.max_length=7", "task.max_length = 7: must be at least 8"),
    ("data.test_fraction=1.0", "data.test_fraction = 1.0: must be less than 1"),
    ("data.source=", 'data.source = "": must not be empty'),
    ("training.dropout=1.0", "training.dropout = 1.0: must be less than 1"),
    ("training.learning_rate=0", "training.learning_rate = 0: must be greater than 0"),
    ("model.lora_rank=0", "model.lora_rank = 0: must be at least 1"),
    ("model.trainable=everything", "model.trainable = \"everything\": must be 'full', 'lora', 'bias' or 'head'"),
    ("federation.strategy=fedsgd", "federation.strategy = \"fedsgd\": must be 'fedavg', 'fedprox'"),
    ("simulation.engine=spark", "simulation.engine = \"spark\": must be 'local' or 'ray'"),
    ("simulation.workers=0", "simulation.workers = 0: must be 'auto' or must be at least 1"),
    ("federation.round_timeout=soon", "federation.round_timeout = \"soon\": must be a duration above zero"),
    ("federation.round_timeout=0s", "federation.round_timeout = \"0s\": must be a duration above zero such as"),
    ("federation.round_timeout=30", "federation.round_timeout = 30: must be a valid string"),
    # each key is legal, together they are not
    ("data.column=", 'data.column = "": partition = "column" needs the column that names the institution'),
    ("federation.proximal_mu=0.1", 'federation.proximal_mu = 0.1: only strategy = "fedprox" uses it'),
    ("federation.malicious_sites=1", "federation.malicious_sites = 1: only krum and trimmed-mean use it"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "line"), FAULTS, ids=[override for override, _ in FAULTS])
def test_a_fault_is_one_line_with_key_value_and_mend(override: str, line: str) -> None:
    (found,) = refusal("", override)
    assert found.startswith("study.toml: ")
    assert line in found
    assert "\n" not in found


TWO_KEYS: list[tuple[list[str], str]] = [
    (["data.sites=4", "federation.min_sites=5"], "federation.min_sites = 5: more than data.sites = 4"),
    (
        ["model.warm_start_steps=3", "model.warm_start_rounds=4"],
        "model.warm_start_rounds = 4: more than warm_start_steps = 3",
    ),
    (
        ["data.validation_fraction=0.5", "data.test_fraction=0.5"],
        "data.test_fraction = 0.5: with validation_fraction = 0.5 nothing is left",
    ),
    (["model.warm_start_steps=0", "federation.rounds=0"], "federation.rounds = 0: nothing would train"),
    (["model.trainable=head", "federation.rounds=0"], "federation.rounds = 0: nothing would train"),
    (
        ["data.sites=4", "federation.strategy=krum", "federation.malicious_sites=1"],
        "federation.malicious_sites = 1: krum then needs 5 sites or more, not 4",
    ),
    (
        ["data.sites=4", "federation.strategy=trimmed-mean", "federation.malicious_sites=2"],
        "federation.malicious_sites = 2: trimmed-mean then needs 5 sites or more, not 4",
    ),
    (["federation.strategy=krum", "data.sites=2"], "krum then needs 3 sites or more, not 2"),
    (
        ["privacy.unit=group"],
        'privacy.group_column = "": unit = "group" needs the column that names each row\'s person',
    ),
    (
        ["privacy.group_column=person"],
        'privacy.group_column = "person": only unit = "group" uses it, not "example"',
    ),
    (
        ["privacy.group_column=person", "privacy.unit=institution"],
        'privacy.group_column = "person": only unit = "group" uses it, not "institution"',
    ),
    (
        ["privacy.rows_per_group=9"],
        'privacy.rows_per_group = 9: only unit = "group" uses it, not "example"',
    ),
    (
        ["privacy.unit=group", "privacy.group_column=person", "privacy.rows_per_group=33"],
        "privacy.rows_per_group = 33: more than training.physical_batch_size = 32",
    ),
    (
        ["privacy.unit=group", "privacy.group_column=person", "training.physical_batch_size=7"],
        "privacy.rows_per_group = 8: more than training.physical_batch_size = 7",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), TWO_KEYS, ids=lambda value: " ".join(value))
def test_impossible_together(overrides: list[str], line: str) -> None:
    (found,) = refusal("", *overrides)
    assert line in found


TAGS = ("task.kind=token-classification", "task.labels=['O', 'B-PER', 'I-PER']")


def test_a_legal_value_that_cannot_be_carried_out_is_refused_by_name() -> None:
    (found,) = refusal("", *TAGS, "data.source=hub:owner/name@1234", kind=NotYet)
    assert 'data.source = "hub:owner/name@1234": not yet under token-classification' in found


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["task.kind=token-classification"], 'must be "O" and tags such as "B-PER" and "I-PER" (BIO)'),
        ([TAGS[0], "task.labels=['O', 'I-PER']"], '"I-PER" continues what no label begins; add "B-PER"'),
        ([*TAGS, "data.partition=dirichlet"], "divides by the label of a text, which token-classif"),
        (["task.kind=masked-language-modeling"], "task.labels = ['no', 'yes']: masked-language-modeling has no"),
        (["task.kind=masked-language-modeling", "task.labels=[]"], "model.warm_start_steps = 20: masked-language"),
        (
            ["task.kind=masked-language-modeling", "task.labels=[]", "model.warm_start_steps=0",
             "model.trainable=head"],
            'model.trainable = "head": masked-language-modeling adapts the encoder; use "lora" or "full"',
        ),
    ],
)  # fmt: skip
def test_what_a_task_cannot_be_combined_with(overrides: list[str], line: str) -> None:
    (found,) = refusal("", *overrides)
    assert line in found


def test_every_task_can_be_studied() -> None:
    assert parsed("", *TAGS).task.kind == "token-classification"
    masked = ("task.kind=masked-language-modeling", "task.labels=[]", "model.warm_start_steps=0")
    assert parsed("", *masked).task.labels == []


@pytest.mark.parametrize("more", [[], ["privacy.rows_per_group=32"], ["privacy.enabled=false"]])
def test_persons_are_a_unit(more: list[str]) -> None:
    study = parsed("", "privacy.unit=group", "privacy.group_column=person", *more)
    assert (study.privacy.unit, study.privacy.group_column) == ("group", "person")


def test_all_faults_are_told_at_once() -> None:
    lines = refusal('[privacy]\nepsilon = -3\nepsilo = 3\n[federation]\nrounds = "ten"\n[nonsense]\nkey = 1\n')
    assert len(lines) == 4
    for key in ("privacy.epsilon", "privacy.epsilo", "federation.rounds", "nonsense"):
        assert sum(line.startswith(f"study.toml: {key} = ") for line in lines) == 1


def test_all_impossible_combinations_are_told_at_once() -> None:
    assert len(refusal("", "federation.min_sites=9", "federation.proximal_mu=1.0", "data.column=")) == 3


def test_a_missing_key_and_a_missing_section_are_named() -> None:
    with pytest.raises(BadInput) as caught:
        parse_study("[study]\nseed = 3\n", where="study.toml")
    assert set(str(caught.value).splitlines()) == {
        "study.toml: study.name: is required",
        "study.toml: task: is required",
    }


def test_a_fault_in_a_list_of_sites_says_which() -> None:
    (line,) = refusal('[[site]]\nname = "a"\n[[site]]\nname = "b"\nepsilon = -1\n')
    assert line == "study.toml: site.2.epsilon = -1: must be greater than 0.0"


def test_an_unknown_key_of_a_site_gets_a_suggestion() -> None:
    (line,) = refusal('[[site]]\nname = "a"\nepsilonn = 1.0\n')
    assert line == "study.toml: site.1.epsilonn = 1.0: unknown key; did you mean epsilon?"


def test_a_site_named_twice_is_refused() -> None:
    (line,) = refusal('[[site]]\nname = "a"\n[[site]]\nname = "a"\n')
    assert line == "study.toml: site: a appears more than once; keep one [[site]] per name"


def test_a_long_value_is_cut_in_the_message() -> None:
    (line,) = refusal("", "model.trainable=" + "x" * 10_000)
    assert len(line) < 300


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("privacy.epsilon=3", "privacy", "epsilon", 3.0),
        ("privacy.epsilon = 3", "privacy", "epsilon", 3.0),
        ("privacy.epsilon=2.5", "privacy", "epsilon", 2.5),
        ("privacy.delta=1e-6", "privacy", "delta", 1e-6),
        ("privacy.enabled=false", "privacy", "enabled", False),
        ("model.trainable=head", "model", "trainable", "head"),
        ('model.trainable="head"', "model", "trainable", "head"),
        ("federation.round_timeout=90s", "federation", "round_timeout", "90s"),
        ('task.labels=["a=b", "c"]', "task", "labels", ["a=b", "c"]),
        ("model.base=owner/name@a=b", "model", "base", "owner/name@a=b"),
    ],
)
def test_set_overrides_one_key(override: str, section: str, key: str, value: Any) -> None:
    study = parsed("", override)
    assert getattr(getattr(study, section), key) == value
    before, after = parsed().model_dump(), study.model_dump()
    del before[section][key], after[section][key]
    assert before == after


def test_of_two_overrides_of_a_key_the_later_counts() -> None:
    assert parsed("", "privacy.epsilon=1", "privacy.epsilon=2").privacy.epsilon == 2.0


@pytest.mark.parametrize(
    "override", ["", "epsilon", "epsilon=3", "privacy.epsilon", "a.b.c=1", ".=1", "privacy.=1"]
)
def test_an_override_that_is_not_one_is_refused(override: str) -> None:
    (line,) = refusal("", override)
    assert line == f"--set {override}: write section.key=value, such as --set privacy.epsilon=3"


def test_a_list_of_sites_cannot_be_overridden() -> None:
    (line,) = refusal('[[site]]\nname = "a"\n', "site.epsilon=1")
    assert "--set site.epsilon=1: site is a list of tables" in line


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such study file; `hanse study new .*` writes a commented one"):
        read_study(tmp_path / "study.toml")


def test_a_folder_is_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is a folder; name the study file in it"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing but a remark\n", "is empty"),
        (b"[study\n", "is not valid TOML: .*line 1"),
        (b"{}", "is not valid TOML"),
        (b'[study]\nname = "a"\nname = "b"\n', "is not valid TOML"),
        (b'[study]\nname = "\xff"\n', "is not UTF-8 at byte 16; save it as UTF-8"),
        (b"\x00\x01\x02", "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_relative_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n", encoding="utf-8")
    (tmp_path / "study.toml").write_text(
        LEAST + '[data]\nsource = "rows.csv"\n[model]\nbase = "./base"\n', encoding="utf-8"
    )
    study = read_study(tmp_path / "study.toml")
    assert study.data.source == str(tmp_path.resolve() / "rows.csv")
    assert study.model.base == str(tmp_path.resolve() / "base")


@pytest.mark.parametrize("source", ["embedded", "hub:owner/name@1234"])
def test_names_that_are_no_paths_stay(tmp_path: Path, source: str) -> None:
    (tmp_path / "embedded").mkdir()
    (tmp_path / "minilm-l6").mkdir()
    (tmp_path / "study.toml").write_text(LEAST + f'[data]\nsource = "{source}"\n', encoding="utf-8")
    study = read_study(tmp_path / "study.toml")
    assert study.data.source == source
    assert study.model.base == "minilm-l6"


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
labels = st.lists(
    st.text(min_size=1, max_size=12).filter(lambda text: text.strip() and "\0" not in text),
    min_size=2, max_size=5, unique=True,
)  # fmt: skip
positive = st.floats(1e-9, 1e9, exclude_min=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=names,
    seed=st.integers(0, 2**32 - 1),
    labels=labels,
    epsilon=positive,
    delta=st.just("auto") | st.floats(1e-12, 1, exclude_max=True),
    rate=positive,
    workers=st.just("auto") | st.integers(1, 1024),
    sites=st.lists(st.tuples(names, st.none() | positive, st.none() | st.integers(1, 10**9)), max_size=3,
                   unique_by=lambda site: site[0]),
)  # fmt: skip
def test_writing_and_reading_back_is_the_identity(tmp_path: Path, **drawn: Any) -> None:
    study = Study.model_validate(
        {
            "study": {"name": drawn["name"], "seed": drawn["seed"]},
            "task": {"labels": drawn["labels"]},
            "privacy": {"epsilon": drawn["epsilon"], "delta": drawn["delta"]},
            "training": {"learning_rate": drawn["rate"]},
            "simulation": {"workers": drawn["workers"]},
            "site": [{"name": n, "epsilon": e, "declared_size": s} for n, e, s in drawn["sites"]],
        }
    )
    write_study(study, tmp_path / "study.toml")
    assert read_study(tmp_path / "study.toml") == study
