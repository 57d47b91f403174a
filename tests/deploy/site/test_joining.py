"""Joining a federation: what lies in the folders afterwards, and what is refused before anything is written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import tomli_w

from common.errors import BadInput
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.invitation import Invitation, write_invitation
from deploy.federation.node_keys import load_node_key
from deploy.site.home import NodeHome, SiteHome, is_node_home
from deploy.site.joining import Joining, join
from tests.client.samples import policy_of
from tests.tiny import write_tiny_data


@pytest.fixture
def invitation(federation: CoordinatorDirectory, tmp_path: Path) -> Invitation:
    return write_invitation(federation, "clinic", tmp_path / "clinic.zip")


@pytest.fixture
def joining(tmp_path: Path) -> Joining:
    policy = tmp_path / "policy.toml"
    sections = policy_of(site={"name": "clinic"}).model_dump(mode="json", exclude_none=True)
    policy.write_text(tomli_w.dumps(sections))
    policy.chmod(0o600)
    return Joining(write_tiny_data(tmp_path / "rows.csv", rows=20), policy)


def test_p22_all_that_joining_makes_is_for_its_owner_alone(
    invitation: Invitation, joining: Joining, tmp_path: Path
) -> None:
    joined = join(invitation, tmp_path / "clinic", joining)
    assert joined.site.read().name == "clinic"
    assert load_node_key(joined.node.key).fingerprint == joined.key.fingerprint
    for path in (joined.site.path, *joined.site.path.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, path
    assert b"PRIVATE" not in joined.node.public_key.read_bytes()


def test_the_guard_serves_the_coordinator_of_the_invitation_alone(
    invitation: Invitation, joining: Joining, tmp_path: Path
) -> None:
    joined = join(invitation, tmp_path / "clinic", joining)
    settings = joined.site.guard_settings()
    assert settings.coordinators == {invitation.manifest.witness_key: "north"}
    assert settings.socket == joined.site.path / "guard.sock"
    assert joined.node.settings(port=1).config == {"guard": str(settings.socket)}


def test_the_nodes_folder_can_lie_elsewhere_and_holds_nothing_of_the_institutions(
    invitation: Invitation, joining: Joining, tmp_path: Path
) -> None:
    apart = Joining(joining.data, joining.policy, tmp_path / "node", tmp_path / "run" / "guard.sock", "relay")
    joined = join(invitation, tmp_path / "clinic", apart)
    assert is_node_home(joined.node.path)
    assert not is_node_home(joined.site.path)
    assert joined.site.node_homes() == []
    assert NodeHome(tmp_path / "node").read().socket == str(tmp_path / "run" / "guard.sock")
    assert joined.site.guard_settings().socket_group == "relay"
    held = b"".join(path.read_bytes() for path in joined.node.path.rglob("*") if path.is_file())
    assert str(joining.data).encode() not in held


def test_a_second_federation_is_added_to_the_same_site(
    invitation: Invitation, joining: Joining, tmp_path: Path, federation: CoordinatorDirectory
) -> None:
    from deploy.federation.coordinator_directory import create_federation

    join(invitation, tmp_path / "clinic", joining)
    other = create_federation(tmp_path / "other", "south", "127.0.0.1:9999", federation.read_study())
    second = write_invitation(other, "clinic", tmp_path / "second.zip")
    joined = join(second, tmp_path / "clinic", Joining())
    assert sorted(joined.site.guard_settings().coordinators.values()) == ["north", "south"]
    assert len(joined.site.node_homes()) == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"data": None}, "--data: is missing"),
        ({"data": Path("/nowhere.csv")}, "--data /nowhere.csv: no such file"),
        ({"policy": None}, "hanse policy new"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(
    invitation: Invitation, joining: Joining, tmp_path: Path, change: dict[str, Path | None], fault: str
) -> None:
    with pytest.raises(BadInput, match=fault):
        join(invitation, tmp_path / "clinic", Joining(**{**vars(joining), **change}))  # type: ignore[arg-type]
    assert not (tmp_path / "clinic").exists()


def test_a_policy_in_another_name_is_refused(invitation: Invitation, joining: Joining, tmp_path: Path) -> None:
    assert joining.policy is not None
    joining.policy.write_text(joining.policy.read_text().replace('"clinic"', '"hospital"'))
    with pytest.raises(BadInput, match=r'site\.name = "hospital": the invitation is for "clinic"'):
        join(invitation, tmp_path / "clinic", joining)
    assert not (tmp_path / "clinic").exists()


def test_joining_twice_leaves_the_first_as_it_was(
    invitation: Invitation, joining: Joining, tmp_path: Path
) -> None:
    first = join(invitation, tmp_path / "clinic", joining)
    with pytest.raises(BadInput, match="has joined north before"):
        join(invitation, tmp_path / "clinic", joining)
    assert load_node_key(first.node.key).fingerprint == first.key.fingerprint


def test_a_folder_with_other_things_is_left_alone(
    invitation: Invitation, joining: Joining, tmp_path: Path
) -> None:
    (tmp_path / "clinic").mkdir(mode=0o700)
    (tmp_path / "clinic" / "letters.txt").write_text("dear")
    with pytest.raises(BadInput, match="holds other things"):
        join(invitation, tmp_path / "clinic", joining)
    assert [path.name for path in (tmp_path / "clinic").iterdir()] == ["letters.txt"]


def test_a_site_home_names_the_command_where_it_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="hanse site join"):
        SiteHome(tmp_path).read()
