"""The Flower app bundle of a deployment: the three rooms, and the keys that a run's configuration may set."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Final

import tomli_w

from deploy.bundle import build_bundle, pack_bundle

__all__ = ["RUN_KEYS", "deployed_bundle"]

RUN_KEYS: Final = {"study": "", "directory": "", "resume": False, "coordinator": "", "sites": "{}"}
"""What ``server.app`` reads, with the defaults; Flower refuses a run that sets a key the bundle does not name."""


def deployed_bundle() -> bytes:
    """The bundle file (FAB) of the installed rooms.

    Raises:
        RunFailed: a room is missing, or Flower cannot build the bundle.

    """
    with tempfile.TemporaryDirectory(prefix="hanse-") as name:
        bundle = build_bundle(Path(name) / "bundle")
        description = bundle / "pyproject.toml"
        tree = tomllib.loads(description.read_text(encoding="utf-8"))
        tree["tool"]["flwr"]["app"]["config"] = dict(RUN_KEYS)
        description.write_text(tomli_w.dumps(tree), encoding="utf-8")
        return pack_bundle(bundle)
