"""Reading a policy: errors that name key, value and mend, all at once; and the template an officer fills in."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path

import pytest

from client.policy import Policy
from client.policy_file import POLICY_TEMPLATE, parse_policy, read_policy
from common.errors import BadInput, NotYet

FILLED = (
    POLICY_TEMPLATE.replace('name = ""  ', 'name = "north"  ', 1)
    .replace('name = ""  ', 'name = "letters"  ', 1)
    .replace('unit = ""', 'unit = "example"')
    .replace("one_row_per_person = false", "one_row_per_person = true")
    .replace("declared_size = 0", "declared_size = 60")
    .replace("epsilon = 0.0 ", "epsilon = 8.0 ", 1)
    .replace("labels = []", 'labels = ["negative", "positive"]')
)
"""The template as an officer leaves it who says only what must be said."""

LEAST = """
[site]
name = "north"
[dataset]
name = "letters"
unit = "example"
one_row_per_person = true
declared_size = 60
[budget]
epsilon = 8
[disclose]
labels = ["negative", "positive"]
"""


def refusal(text: str, kind: type[BadInput] = BadInput) -> list[str]:
    """The lines of the error that a text gives."""
    with pytest.raises(BadInput) as caught:
        parse_policy(text, "policy.toml")
    assert type(caught.value) is kind
    return str(caught.value).splitlines()


def changed(old: str, new: str) -> str:
    """The smallest policy with one line changed."""
    assert LEAST.count(old) == 1
    return LEAST.replace(old, new)


FAULTS: list[tuple[str, str]] = [
    # unknown keys, with a suggestion where one is near
    (LEAST + "[alow]\nmin_sites = 3\n", "unknown key; did you mean allow?"),
    (LEAST + "[allow]\nmin_site = 3\n", "allow.min_site = 3: unknown key; did you mean min_sites?"),
    (LEAST + "[ledger]\nzzzz = 3\n", "ledger.zzzz = 3: unknown key; known keys here: url"),
    (LEAST + '"a[b]" = 3\n', "disclose.a[b] = 3: unknown key"),
    # wrong types: nothing is converted behind the officer's back
    (
        changed("declared_size = 60", 'declared_size = "60"'),
        'dataset.declared_size = "60": must be a valid integer',
    ),
    (
        changed("declared_size = 60", "declared_size = 60.0"),
        "dataset.declared_size = 60.0: must be a valid integer",
    ),
    (changed("one_row_per_person = true", "one_row_per_person = 1"), "= 1: must be a valid boolean"),
    (changed("epsilon = 8", 'epsilon = "8"'), 'budget.epsilon = "8": must be a valid number'),
    (
        changed('labels = ["negative", "positive"]', 'labels = "all"'),
        'disclose.labels = "all": must be a valid list',
    ),
    (changed('"positive"]', "2]"), "disclose.labels.2 = 2: must be a valid string"),
    (changed('[site]\nname = "north"', 'site = "north"'), 'site = "north": must be a table of keys'),
    (LEAST + "[[allow]]\n", "allow = [{}]: must be a table of keys"),
    (LEAST + '[allow]\nexpires = "2027-01-31"\n', "must be a date without quotes, such as 2027-12-31"),
    (LEAST + "[allow]\nexpires = 2027-01-31T12:00:00\n", "must be a date without quotes"),
    # out of range
    (changed('"north"', '"../x"'), 'site.name = "../x": may hold letters'),
    (changed('"north"', f'"{"x" * 65}"'), "must have at most 64 characters"),
    (changed('"letters"', '" letters"'), 'dataset.name = " letters": must be 1 to 100 printable characters'),
    (changed('"example"', '"person"'), "dataset.unit = \"person\": must be 'example', 'group' or 'institution'"),
    (changed("= 60", "= 0"), "dataset.declared_size = 0: must be at least 1"),
    (changed("= 60", "= 1000000000001"), "dataset.declared_size = 1000000000001: must be at most 1e+12"),
    (changed("= 8", "= 0"), "budget.epsilon = 0: must be greater than 0"),
    (changed("= 8", "= inf"), "budget.epsilon = inf: must be"),
    (changed("= 8", "= nan"), "budget.epsilon = nan: must be"),
    (changed("= 8", "= 10001"), "budget.epsilon = 10001: must be at most 10000"),
    (changed("= 8", "= 8\ndelta = 1.0"), "budget.delta = 1.0: must be 'auto' or must be less than 1"),
    (changed("= 8", '= 8\ndelta = "car"'), "budget.delta = \"car\": must be 'auto' or must be a valid number"),
    (changed("= 8", '= 8\nkind = "odometer"'), "budget.kind = \"odometer\": must be 'plan' or 'filter'"),
    (changed("= 8", "= 8\nepsilon_per_round = 0"), "budget.epsilon_per_round = 0: must be greater than 0"),
    (changed(', "positive"', ""), "disclose.labels = ['negative']: needs at least 2 entries"),
    (changed('"positive"', '"negative"'), "entries must be distinct and not empty"),
    (LEAST + "[allow]\ntrainable = []\n", "allow.trainable = []: needs at least 1 entries"),
    (LEAST + '[allow]\nstrategies = ["fedsgd"]\n', "allow.strategies.1 = \"fedsgd\": must be 'fedavg'"),
    (LEAST + '[allow]\nmodels = [""]\n', "allow.models = ['']: entries must be distinct and not empty"),
    (LEAST + "[allow]\nmin_sites = 0\n", "allow.min_sites = 0: must be at least 1"),
    (LEAST + "[allow]\nmin_noise_multiplier = -0.1\n", "must be at least 0"),
    (LEAST + '[allow]\napproval = "asked"\n', "allow.approval = \"asked\": must be 'required' or 'none'"),
    # each key is legal, together they are not
    (changed("one_row_per_person = true", ""), "dataset.one_row_per_person = false"),
    (changed('"example"', '"group"'), 'dataset.group_column = "": unit = "group" needs the column'),
    (changed("= 60", '= 60\ngroup_column = "id"'), 'dataset.group_column = "id": belongs to unit = "group"'),
    (
        changed("= 8", "= 8\nepsilon_per_study = 9"),
        "budget.epsilon_per_study = 9: must be at most budget.epsilon = 8",
    ),
    (changed("= 8", "= 8\norder = 4"), 'budget.order = 4: belongs to kind = "filter"'),
    (changed("= 8", '= 8\nkind = "filter"'), "budget.order: a filter needs one from 2"),
    (LEAST + '[ledger]\nurl = "sqlite:///x.db"\n', "ledger.url: a sqlite database: must be PostgreSQL"),
    (LEAST + '[ledger]\nurl = "ledger.db"\n', "ledger.url: the database's URL cannot be read"),
]


@pytest.mark.parametrize(("text", "part"), FAULTS, ids=[part[:60] for _, part in FAULTS])
def test_a_fault_names_file_key_value_and_what_is_allowed(text: str, part: str) -> None:
    (line,) = refusal(text)
    assert line.startswith("policy.toml: ")
    assert part in line


def test_the_smallest_policy_and_what_it_leaves_at_its_default() -> None:
    policy = parse_policy(LEAST, "policy.toml")
    assert (policy.budget.epsilon, policy.delta, policy.terms.kind) == (8.0, 1e-5, "plan")
    assert (policy.allow.approval, policy.allow.min_sites, policy.allow.min_noise_multiplier) == (
        "required",
        2,
        0.3,
    )
    assert policy.allow.models == ["minilm-l6"]
    dated = parse_policy(LEAST + "[allow]\nexpires = 2027-01-31\n", "policy.toml")
    assert dated.allow.expires == date(2027, 1, 31)


def test_every_fault_is_told_at_once() -> None:
    text = (
        LEAST.replace('"north"', "3").replace("= 60", "= 0").replace("epsilon = 8", "epsilon = -8\nepsilonn = 1")
    )
    assert len(refusal(text)) == 4
    assert refusal("[site]\n") == [
        "policy.toml: site.name: is required",
        "policy.toml: dataset: is required",
        "policy.toml: budget: is required",
        "policy.toml: disclose: is required",
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty; `hanse policy new` writes a commented policy"),
        ("name =", "is not valid TOML"),
        ("a = 1\na = 2", "is not valid TOML"),
        (f"a = {'9' * 5000}", "is not valid TOML"),
    ],
)
def test_what_is_no_policy(text: str, part: str) -> None:
    (line,) = refusal(text)
    assert part in line


def test_what_this_version_cannot_do_is_named_not_yet() -> None:
    (line,) = refusal(LEAST + "validation_epsilon = 0.5\n", NotYet)
    assert line.startswith("policy.toml: disclose.validation_epsilon = 0.5: not yet")


def test_p22_a_secret_in_the_wrong_place_is_not_shown() -> None:
    text = LEAST + '[ledger]\nulr = "postgresql://me:hush@host/name?password=hush&b=1"\n'
    (line,) = refusal(text)
    assert "hush" not in line
    assert "postgresql://***@host/name?password=***&b=1" in line


class TestTemplate:
    """What ``hanse policy new`` writes."""

    def test_p02_p03_unfilled_it_is_refused_with_every_key_that_only_an_officer_can_say(self) -> None:
        lines = refusal(POLICY_TEMPLATE)
        assert [line.split(" ")[1] for line in lines] == [
            "site.name",
            "dataset.name",
            "dataset.unit",
            "dataset.declared_size",
            "budget.epsilon",
            "disclose.labels",
        ]
        marked = [line for line in POLICY_TEMPLATE.splitlines() if "# FILL IN" in line]
        assert len(marked) == len(lines)

    def test_filled_it_is_the_smallest_policy(self) -> None:
        assert parse_policy(FILLED, "policy.toml") == parse_policy(LEAST, "policy.toml")

    def test_it_names_every_key_and_its_comments_are_legal_too(self) -> None:
        tree = tomllib.loads(FILLED)
        commented = FILLED.replace("# order", "order").replace("# epsilon_per", "epsilon_per")
        commented = commented.replace("# expires", "expires").replace('kind = "plan"', 'kind = "filter"')
        parse_policy(commented, "policy.toml")
        tree = tomllib.loads(commented)
        for section, field in Policy.model_fields.items():
            model = field.annotation
            assert model is not None
            assert set(tree[section]) == set(model.model_fields)


class TestFile:
    """Where the text comes from."""

    def written(self, folder: Path, mode: int = 0o600) -> Path:
        path = folder / "policy.toml"
        path.write_text(LEAST, encoding="utf-8")
        path.chmod(mode)
        return path

    @pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660, 0o777])
    def test_p22_a_policy_that_others_may_write_is_refused(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(BadInput, match=rf"mode {mode:o}: others may change it; run chmod 600"):
            read_policy(self.written(tmp_path, mode))

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
    def test_p22_one_that_others_may_only_read_is_taken(self, tmp_path: Path, mode: int) -> None:
        assert read_policy(self.written(tmp_path, mode)).site.name == "north"

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"is a folder; name the policy file in it, such as .*policy\.toml"):
            read_policy(tmp_path)
        with pytest.raises(BadInput, match=r"no such policy; `hanse policy new .*none\.toml` writes"):
            read_policy(tmp_path / "none.toml")
        path = self.written(tmp_path)
        path.write_bytes(b'name = "\xe9"')
        with pytest.raises(BadInput, match="is not UTF-8 at byte 8"):
            read_policy(path)
        with pytest.raises(BadInput, match="cannot be read: Not a directory"):
            read_policy(path / "policy.toml")

    def test_p03_nothing_beside_the_file_is_looked_at(self, tmp_path: Path) -> None:
        """The size is the one typed, or asked for in the same words, whatever data lies in the folder."""
        told = set()
        for rows in (3, 4000):
            (tmp_path / "rows.csv").write_text("text,label\n" + "good,positive\n" * rows, encoding="utf-8")
            path = self.written(tmp_path)
            assert read_policy(path).dataset.declared_size == 60
            path.write_text(changed("declared_size = 60\n", ""), encoding="utf-8")
            with pytest.raises(BadInput, match=r"dataset\.declared_size: is required") as caught:
                read_policy(path)
            told.add(str(caught.value))
        assert len(told) == 1
