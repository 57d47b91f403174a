"""What the container files promise: a guard without network, a node without data, an image without secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "containers"
SITES = ("north", "south", "west")

Mapping = dict[str, Any]


def compose() -> Mapping:
    found: Mapping = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def mounts(service: Mapping) -> dict[str, str]:
    """Target to source of everything mounted, and nothing in another form than SOURCE:TARGET[:ro]."""
    found = {}
    for volume in service.get("volumes", ()):
        source, target, *mode = str(volume).split(":")
        assert mode in ([], ["ro"]), volume
        found[target] = source
    return found


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> tuple[str, Mapping, Mapping]:
    """Name, guard and node of a site."""
    name = str(request.param)
    services = compose()["services"]
    return name, services[f"{name}-guard"], services[f"{name}-node"]


def test_there_are_a_coordinator_and_three_sites() -> None:
    assert set(compose()["services"]) == {"coordinator", "metrics"} | {
        f"{site}-{part}" for site in SITES for part in ("guard", "node")
    }


def test_a_guard_has_the_data_and_no_network(site: tuple[str, Mapping, Mapping]) -> None:
    name, guard, _ = site
    assert guard["network_mode"] == "none"
    assert "networks" not in guard
    assert "ports" not in guard
    assert guard["command"][guard["command"].index("--part") + 1] == "guard"
    assert mounts(guard)["/data"] == f"./{name}/data"
    assert f"./{name}/data:/data:ro" in guard["volumes"]


def test_a_node_has_the_network_and_no_data(site: tuple[str, Mapping, Mapping]) -> None:
    """All that it shares with the guard is the socket's volume; nothing of the guard's home or data is in it."""
    name, guard, node = site
    assert node["networks"] == ["federation"]
    assert "network_mode" not in node
    assert "ports" not in node
    assert node["command"][node["command"].index("--part") + 1] == "node"
    assert mounts(node) == {"/site": f"./{name}/node", "/run/hanse": f"{name}-socket"}
    assert set(mounts(node).values()) & set(mounts(guard).values()) == {f"{name}-socket"}
    assert not any("data" in source for source in mounts(node).values())


def test_guard_and_node_are_two_users_who_share_the_sockets_group(site: tuple[str, Mapping, Mapping]) -> None:
    _, guard, node = site
    (guard_user, guard_group), (node_user, node_group) = (each["user"].split(":") for each in (guard, node))
    assert guard_user != node_user
    assert guard_group == node_group
    assert "0" not in (guard_user, node_user)


def test_no_site_sees_anything_of_another() -> None:
    sources: dict[str, str] = {}
    for name, service in compose()["services"].items():
        owner = name.removesuffix("-guard").removesuffix("-node")
        for source in mounts(service).values():
            assert sources.setdefault(source, owner.replace("metrics", "coordinator")) in (owner, "coordinator")
            assert source.removeprefix("./").startswith(owner) or owner == "metrics"


def test_one_port_is_open_and_every_container_is_locked_down() -> None:
    services = compose()["services"]
    assert {name: each["ports"] for name, each in services.items() if "ports" in each} == {
        "coordinator": ["8443:8443"]
    }
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for key in ("privileged", "cap_add", "pid", "ipc", "devices", "env_file", "secrets", "environment"):
            assert key not in service, (name, key)
        assert "docker.sock" not in str(service), name


def test_volumes_hold_sockets_alone() -> None:
    assert set(compose()["volumes"]) == {f"{site}-socket" for site in SITES}


def test_the_image_takes_in_code_alone() -> None:
    """Everything is shut out of the build but the rooms' sources; the image names no key, password or data."""
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    for rule in rules[1:]:
        assert re.fullmatch(
            r"!(pyproject\.toml|LICENSE|NOTICE)|!(common|client|server|deploy)/\*\*/\*\.(py|txt|html|j2|svg|md|css|js)"
            r"|\*\*/__pycache__",
            rule,
        ), rule
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, flags=re.MULTILINE)
    assert copied == [
        "pyproject.toml LICENSE NOTICE", "common", "client", "server", "deploy", "deploy/containers/healthy.py",
    ]  # fmt: skip
    for word in ("ADD ", "SECRET", "PASSWORD", "TOKEN", ".key", "sudo", "curl"):
        assert word not in text, word


def test_the_image_ends_as_no_root_and_its_users_are_those_of_the_compose_file() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, flags=re.MULTILINE)[-1] == "10002:10010"
    made = dict(re.findall(r"useradd --uid (\d+) .* (hanse-\w+) *\\?$", text, flags=re.MULTILINE))
    assert made == {"10000": "hanse-coordinator", "10001": "hanse-guard", "10002": "hanse-node"}
    used = {str(service["user"]).split(":")[0] for service in compose()["services"].values()}
    assert used == set(made)
    assert "groupadd --gid 10010 hanse-socket" in text


def test_what_the_build_copies_exists_and_what_it_ignores_holds_all_that_the_program_reads() -> None:
    """A file of another kind beside the sources would be missing from the image."""
    root = FOLDER.parents[1]
    kept = {".py", ".txt", ".html", ".j2", ".svg", ".md", ".css", ".js"}
    for room in ("common", "client", "server", "deploy"):
        for file in (root / room).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and "containers" not in file.parts:
                assert file.suffix in kept | {".proto"}, file  # which is read by people alone
