"""The operations and security guides name no command, option, file or test that does not exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import typer

import deploy.cli
from client.guard_metrics import GuardMetrics
from client.site_directory import SiteDirectory
from deploy.federation.metrics import run_registry

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Every block that is meant to be typed."""
    return re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of every `hanse` command in them, as the shell splits them; variables stay as they are written."""
    found = []
    for block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "&" in words:
                words.remove("&")
            if "hanse" in words:  # after docker, the image's name stands where the command does
                found.append(words[words.index("hanse") + 1 :])
    return found


def command_at(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the rest."""
    at: click.Command = typer.main.get_command(deploy.cli.app)
    rest = list(words)
    while isinstance(at, click.Group):
        name = rest.pop(0)
        assert name in at.commands, f"hanse {' '.join(words)}: there is no {name}"
        at = at.commands[name]
    return at, rest


@pytest.mark.parametrize("words", commands(DEPLOY), ids=" ".join)
def test_every_command_in_the_guide_exists_with_its_options(words: list[str]) -> None:
    if words == ["."]:  # docker build
        return
    command, rest = command_at(words)
    parser = command.make_parser(click.Context(command))
    parser.parse_args(list(rest))  # raises for an unknown option


def test_both_parties_have_steps_to_follow() -> None:
    """A marked block begins with its mark, says whose it is, and uses no variable that the guide does not set."""
    marked = [block for block in blocks(DEPLOY) if "# step:" in block]
    assert {re.match(r"# step: (\w+)", block)[1] for block in marked} == {"coordinator", "site"}  # type: ignore[index]
    (setting,) = [block for block in blocks(DEPLOY) if block.startswith("FEDERATION=")]
    known = set(re.findall(r"^([A-Z_]+)=", setting, flags=re.MULTILINE))
    for block in marked:
        assert block.startswith("# step: ")
        assert set(re.findall(r"\$\{?([A-Z_]+)", block)) <= known, block


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:deploy|common|tests|docs)/[\w./@-]+)`", DEPLOY))))
def test_every_file_in_the_guide_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_metric_in_the_guide_is_one_and_all_are_told(tmp_path: Path) -> None:
    told = set(re.findall(r"`(hanse_(?:run|guard)_\w+)`", DEPLOY))
    families = [
        *run_registry(lambda: [tmp_path]).collect(),
        *GuardMetrics(SiteDirectory(tmp_path)).registry.collect(),
    ]
    served = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert told == served


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", SECURITY)


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_every_test_that_the_security_guide_names_exists(file: str, name: str) -> None:
    assert re.search(rf"^ *(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_threat_has_a_test_or_says_that_it_has_none() -> None:
    threats = SECURITY.split("## Threats", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (.*) \| (.*) \|(.*)\|$", threats, flags=re.MULTILINE)
    rows = [row for row in rows if row[0] not in ("threat", "---") and not row[0].startswith("-")]
    assert len(rows) > 25
    for threat, stands, test in rows:
        assert "tests/" in test or "not covered" in stands, threat
    assert len(named_tests()) > 40


def test_the_marked_steps_are_a_shells() -> None:
    """Bash reads every block without running it."""
    for block in [*blocks(DEPLOY), *blocks(SECURITY)]:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (block, done.stderr)
