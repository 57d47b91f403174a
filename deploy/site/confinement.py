"""What a node's processes may open: Python, the system's own files, and the node's folder. Nothing of the site's.

A Flower client runs the code that the coordinator sent. It shall find no data to read, even where the node and the
guard belong to one user: on Linux the kernel sees to it (Landlock), else the institution runs them as two users.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import client
import common
import deploy
import server
from common.errors import BadInput, RunFailed
from common.privacy.ledger.keys import private_folder
from deploy.federation.processes import ChildPlan
from deploy.site import confined
from deploy.site.home import NodeHome

__all__ = ["can_confine", "confined_plans"]

_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc",
    "/sys/devices/system/cpu",
    "/run/systemd/resolve",
)
_PROCESSES: Final = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/sys/kernel")
"""No process's own files: its environment may name what is private."""
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def can_confine() -> bool:
    """Whether this system can shut the rest of the file system away from a process."""
    return confined.landlock_version() > 0


def confined_plans(plans: Sequence[ChildPlan], node: NodeHome, private: Sequence[Path]) -> list[ChildPlan]:
    """The same processes, each able to open nothing but what they need.

    Args:
        plans: the node's processes.
        node: their folder, the only one in which they may write.
        private: the site's folder and its data: none of it may lie where they can read.

    Raises:
        RunFailed: the system cannot confine a process.
        BadInput: something private lies where the processes must read.
    """
    if not can_confine():
        raise RunFailed("this system cannot confine a process (Linux 5.13 or newer with Landlock can)")
    readable = [path for path in _readable() if path.exists()]
    for path in private:
        for folder in readable:
            if path.resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{path}: lies in {folder}, which the node must read; keep it elsewhere")
        if path.resolve().is_relative_to(node.path.resolve()):
            raise BadInput(f"{path}: lies in the node's folder {node.path}; keep it elsewhere")
    _link_rooms(node)
    writable = [node.path, *(path for path in map(Path, _DEVICES) if path.exists())]
    confinement = json.dumps({"read": [str(path) for path in readable], "write": [str(path) for path in writable]})
    prefix = (sys.executable, "-P", str(confined.__file__), confinement)
    return [replace(plan, prefix=prefix, environment=_own_places(plan, node)) for plan in plans]


def _rooms() -> list[Path]:
    return [Path(str(room.__file__)).parent for room in (client, common, deploy, server)]


def _readable() -> list[Path]:
    return [*map(Path, _SYSTEM + _PROCESSES), Path(sys.prefix), Path(sys.base_prefix), *_rooms()]


def _link_rooms(node: NodeHome) -> None:
    """Python lists the folders that it imports from; the one that holds our packages may hold anything else."""
    private_folder(node.rooms)
    for room in _rooms():
        link = node.rooms / room.name
        link.unlink(missing_ok=True)
        link.symlink_to(room, target_is_directory=True)


def _own_places(plan: ChildPlan, node: NodeHome) -> dict[str, str]:
    """The user's home and the shared temporary folder are shut: the node has its own."""
    own = {"HOME": node.path, "TMPDIR": node.temporary, "PYTHONPATH": node.rooms}
    return {**plan.environment, **{name: str(path) for name, path in own.items()}}
