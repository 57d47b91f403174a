"""The coordinator's list of sites."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.errors import BadInput
from deploy.federation.node_keys import NodePublicKey, create_node_key
from deploy.federation.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "sites.json")


def _key(folder: Path, name: str) -> NodePublicKey:
    return create_node_key(folder / "keys" / name)


def test_a_registered_site_is_found_again(registry: Registry, tmp_path: Path) -> None:
    assert registry.sites() == []
    entry = registry.register("clinic", _key(tmp_path, "a"))
    registry.note_node(entry, 17513270857650023255)
    again = Registry(tmp_path / "sites.json").site("clinic")
    assert again.node_id == 17513270857650023255
    assert again.key == entry.key


def test_names_and_keys_are_taken_once(registry: Registry, tmp_path: Path) -> None:
    key = _key(tmp_path, "a")
    registry.register("clinic", key)
    with pytest.raises(BadInput, match="registered already, as clinic"):
        registry.register("other", key)
    with pytest.raises(BadInput, match="registered with another key"):
        registry.register("clinic", _key(tmp_path, "b"))
    for name in ("", "../clinic", "a b", "x" * 65, "-clinic"):
        with pytest.raises(BadInput, match="must be 1 to 64"):
            registry.register(name, _key(tmp_path, f"k{len(name)}"))
    assert [site.name for site in registry.sites()] == ["clinic"]


def test_a_revoked_key_never_comes_back_but_its_site_may(registry: Registry, tmp_path: Path) -> None:
    key = _key(tmp_path, "a")
    registry.register("clinic", key)
    registry.revoke("clinic")
    assert registry.current() == []
    with pytest.raises(BadInput, match="this key was revoked"):
        registry.register("clinic", key)
    with pytest.raises(BadInput, match="not registered"):
        registry.revoke("clinic")
    registry.register("clinic", _key(tmp_path, "b"))
    assert [(site.name, site.revoked) for site in registry.sites()] == [("clinic", True), ("clinic", False)]


def test_operators_at_the_same_time_lose_nothing(registry: Registry, tmp_path: Path) -> None:
    keys = [_key(tmp_path, f"k{number}") for number in range(8)]
    threads = [
        threading.Thread(target=registry.register, args=[f"site-{number}", key]) for number, key in enumerate(keys)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.current()) == 8


def test_a_stamp_tells_every_change(registry: Registry, tmp_path: Path) -> None:
    stamps = [registry.stamp()]
    registry.register("clinic", _key(tmp_path, "a"))
    stamps.append(registry.stamp())
    registry.revoke("clinic")
    stamps.append(registry.stamp())
    assert len(set(stamps)) == 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 2, "sites": []}', '{"version": 1, "sites": [], "more": 1}', "\x00",
     '{"version": 1, "sites": [{"name": "a", "public_key": "no key", "registered_at": "2026-01-01T00:00:00Z"}]}'],
)  # fmt: skip
def test_a_damaged_list_is_refused_not_taken_as_empty(registry: Registry, tmp_path: Path, text: str) -> None:
    (tmp_path / "sites.json").write_text(text)
    with pytest.raises(BadInput, match=r"sites\.json"):
        registry.sites()
