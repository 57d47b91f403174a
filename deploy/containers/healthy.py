"""Tells a container's runtime whether its role answers: exit code 0, or 1.

python healthy.py coordinator FEDERATION_FOLDER
python healthy.py guard SOCKET
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["coordinator_answers", "guard_answers", "main"]


def coordinator_answers(folder: Path) -> bool:
    """Whether the federation's own SuperLink answers on this machine, by its certificate."""
    from deploy.federation.control import is_answering
    from deploy.federation.coordinator_directory import open_federation

    return is_answering(open_federation(folder))


def guard_answers(socket: Path) -> bool:
    """Whether a guard answers at a socket."""
    from deploy.site.guard_process import guard_is_serving

    return guard_is_serving(socket)


def main(arguments: list[str]) -> int:
    """The exit code for a command line."""
    checks = {"coordinator": coordinator_answers, "guard": guard_answers}
    match arguments:
        case [role, place] if role in checks:
            return 0 if checks[role](Path(place)) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
