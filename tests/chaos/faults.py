"""What goes wrong, to whom and when, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CRASHES", "Fault", "Kind", "faults"]


class Kind(StrEnum):
    """A fault; each is undone after a while as an operator, or the machine's own supervisor, would."""

    KILL_SITE = "kill-site"
    """SIGKILL to everything of a site, which is then started again."""
    KILL_GUARD = "kill-guard"
    """SIGKILL to the guard alone; the site's supervisor starts it again."""
    KILL_NODE = "kill-node"
    """SIGKILL to the SuperNode alone."""
    KILL_COORDINATOR = "kill-coordinator"
    """SIGKILL to everything of the coordinator, which is started again; its run is resumed."""
    PAUSE_SITE = "pause-site"
    """SIGSTOP to everything of a site, and SIGCONT."""
    PAUSE_COORDINATOR = "pause-coordinator"
    """SIGSTOP to everything of the coordinator, and SIGCONT."""
    CUT_NETWORK = "cut-network"
    """Every connection between sites and coordinator ends, and new ones are refused for a while."""
    SLOW_NETWORK = "slow-network"
    """Bytes between sites and coordinator trickle for a while."""
    FULL_SITE = "full-site"
    """No file of the guard can grow for a while, as on a full disk."""
    FULL_COORDINATOR = "full-coordinator"
    """No file of the coordinator can grow for a while."""
    CLOCK_JUMP = "clock-jump"
    """The clock of a site's guard is an hour wrong for a while."""


CRASHES = (Kind.KILL_SITE, Kind.KILL_GUARD, Kind.KILL_COORDINATOR)
"""What an institution's machine does sooner or later."""

_OF_COORDINATOR = (Kind.KILL_COORDINATOR, Kind.PAUSE_COORDINATOR, Kind.FULL_COORDINATOR)
_OF_ALL = (Kind.CUT_NETWORK, Kind.SLOW_NETWORK)


@dataclass(frozen=True)
class Fault:
    """One fault of a plan."""

    kind: Kind
    target: str
    """A site's name, ``coordinator``, or ``network``."""
    delay: float
    """Seconds after the start of a round."""
    duration: float
    """Seconds until it is undone."""
    pause: float
    """Seconds of peace after that."""


def faults(seed: int, kinds: Sequence[Kind], sites: Sequence[str]) -> Iterator[Fault]:
    """An endless plan, the same for the same seed: every kind in turn, in an order drawn anew for each turn."""
    chooser = random.Random(seed)
    while True:
        for kind in chooser.sample(kinds, len(kinds)):
            yield Fault(
                kind=kind,
                target=_target(kind, sites, chooser),
                delay=chooser.uniform(0.0, 2.0),
                duration=chooser.uniform(0.5, 8.0),
                pause=chooser.uniform(0.0, 4.0),
            )


def _target(kind: Kind, sites: Sequence[str], chooser: random.Random) -> str:
    if kind in _OF_COORDINATOR:
        return "coordinator"
    if kind in _OF_ALL:
        return "network"
    return sites[-1] if kind is Kind.CLOCK_JUMP else chooser.choice(sites)
