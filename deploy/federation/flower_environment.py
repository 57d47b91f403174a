"""The environment in which Flower's processes run: their own home, no network but ours, nothing inherited."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from deploy.ray_child import QUIET_FLOWER

__all__ = ["flower_environment"]

_DROPPED: Final = ("FORWARDED_ALLOW_IPS", "PYTHONSTARTUP", "PYTHONINSPECT")
"""Variables that would let a peer lie about its address, or that disturb a process without a terminal."""


def flower_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a Flower process whose home is ``home``, with ``more`` added.

    Every ``FLWR_`` variable of the caller is dropped: some of them open further ports or load plugins. The
    commands of this Python come first on the path, for Flower starts its own by name.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("FLWR_") and name not in _DROPPED
    }
    commands = str(Path(sys.executable).parent)
    return {
        **kept,
        **QUIET_FLOWER,
        "FLWR_HOME": str(home),
        "PATH": os.pathsep.join(filter(None, [commands, kept.get("PATH")])),
        **more,
    }
