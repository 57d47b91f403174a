"""The Kubernetes examples: who mounts what, who may reach whom, and that nobody runs as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "containers" / "kubernetes"

Mapping = dict[str, Any]


def documents(name: str) -> list[Mapping]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def sets(name: str) -> dict[str, Mapping]:
    """The pods' templates by name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in documents(name)
        if each["kind"] == "StatefulSet"
    }


def containers() -> Iterator[tuple[str, Mapping, Mapping]]:
    """Every container with its pod, of every file."""
    for file in sorted(FOLDER.glob("*.yaml")):
        for name, pod in sets(file.name).items():
            for container in pod["containers"]:
                yield f"{file.name}: {name}: {container['name']}", pod, container


def mounted(container: Mapping) -> set[str]:
    return {mount["name"] for mount in container["volumeMounts"]}


def policy(file: str, name: str) -> Mapping:
    (found,) = [
        each["spec"]
        for each in documents(file)
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == name
    ]
    assert set(found["policyTypes"]) == {"Ingress", "Egress"}
    return dict(found)


def test_a_pods_guard_and_node_share_the_socket_alone() -> None:
    pod = sets("site.yaml")["hanse-site"]
    guard, node = pod["containers"]
    assert mounted(guard) & mounted(node) == {"socket"}
    assert "data" in mounted(guard)
    assert "data" not in mounted(node)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes["socket"]
    (data,) = [mount for mount in guard["volumeMounts"] if mount["name"] == "data"]
    assert data["readOnly"] is True


def test_a_site_reaches_the_coordinator_and_names_alone() -> None:
    for file, name in (("site.yaml", "hanse-site"), ("site-two-pods.yaml", "hanse-node")):
        rules = policy(file, name)
        assert rules["ingress"] == []
        ports = {port["port"] for rule in rules["egress"] for port in rule["ports"]}
        assert ports == {8443, 53}
        assert all(rule["to"] for rule in rules["egress"])


def test_in_two_pods_the_guard_reaches_nobody_and_the_node_has_no_data() -> None:
    rules = policy("site-two-pods.yaml", "hanse-guard")
    assert (rules["ingress"], rules["egress"]) == ([], [])
    assert rules["podSelector"]["matchLabels"] == {"app": "hanse-guard"}
    pods = sets("site-two-pods.yaml")
    claims = {
        name: {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        }
        for name, pod in pods.items()
    }
    assert claims == {"hanse-guard": {"hanse-data", "hanse-socket"}, "hanse-node": {"hanse-socket"}}
    (guard,), (node,) = pods["hanse-guard"]["containers"], pods["hanse-node"]["containers"]
    assert mounted(guard) & mounted(node) == {"socket", "tmp"}
    assert all("emptyDir" in v for pod in pods.values() for v in pod["volumes"] if v["name"] == "tmp")


def test_selectors_meet_their_pods() -> None:
    """A policy that selects nobody protects nobody."""
    for file in sorted(FOLDER.glob("*.yaml")):
        labels = [
            each["spec"]["template"]["metadata"]["labels"]
            for each in documents(file.name)
            if each["kind"] == "StatefulSet"
        ]
        for each in documents(file.name):
            if each["kind"] == "NetworkPolicy":
                assert each["spec"]["podSelector"]["matchLabels"] in labels
            if each["kind"] == "StatefulSet":
                assert each["spec"]["selector"]["matchLabels"] in labels
                assert each["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("pod", "container"), [each[1:] for each in containers()], ids=[e[0] for e in containers()]
)
def test_every_container_is_locked_down(pod: Mapping, container: Mapping) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "fsGroup" not in pod["securityContext"], "it would let a group read the keys"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod.get("volumes", ()))
    security = container["securityContext"]
    assert security["runAsUser"] >= 10000
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "env" not in container


def test_guard_and_node_are_two_users() -> None:
    users = {
        name.rsplit(" ", 1)[1]: container["securityContext"]["runAsUser"] for name, _, container in containers()
    }
    assert users == {"coordinator": 10000, "guard": 10001, "node": 10002}
