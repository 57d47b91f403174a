"""What the coordinator writes down: one record a round, and the result of the study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.evaluation import Evaluation
from common.privacy.mechanism import Mechanism
from common.privacy.mechanism import from_json as mechanism_from_json
from common.privacy.mechanism import to_json as mechanism_to_json

__all__ = ["RoundRecord", "SiteRound"]


@dataclass(frozen=True)
class SiteRound:
    """One site in one round."""

    site: str
    mechanism: Mechanism
    """What it released (or, in a consumed round, may have)."""
    epsilon: float | None
    """Spent since the study began, this round included; None without privacy."""
    replied: bool
    seconds: float
    """From the round's start to the arrival of its update; a public fact of the network."""
    reason: str = ""
    """Why there is no update, if there is none."""


@dataclass(frozen=True)
class RoundRecord:
    """One finished round."""

    round: int
    phase: str
    steps: int
    sites: tuple[SiteRound, ...]
    evaluation: Evaluation | None
    """On the validation set; None where the round was not scored."""
    bytes_sent: int
    """Tensors sent to all sites together."""
    bytes_received: int
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by part: ``train`` (until the last update), ``evaluate``, ``round`` (all of it)."""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, one line of ``rounds.jsonl``."""
        return {
            "round": self.round,
            "phase": self.phase,
            "steps": self.steps,
            "sites": [
                {
                    "site": site.site,
                    "mechanism": mechanism_to_json(site.mechanism),
                    "epsilon": site.epsilon,
                    "replied": site.replied,
                    "seconds": round(site.seconds, 3),
                    "reason": site.reason,
                }
                for site in self.sites
            ],
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "seconds": {part: round(value, 3) for part, value in self.seconds.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RoundRecord:
        """Read back :meth:`to_json`."""
        return cls(
            round=value["round"],
            phase=value["phase"],
            steps=value["steps"],
            sites=tuple(
                SiteRound(
                    site["site"],
                    mechanism_from_json(site["mechanism"]),
                    site["epsilon"],
                    site["replied"],
                    site["seconds"],
                    site["reason"],
                )
                for site in value["sites"]
            ),
            evaluation=Evaluation.from_json(value["evaluation"]) if value["evaluation"] else None,
            bytes_sent=value["bytes_sent"],
            bytes_received=value["bytes_received"],
            seconds=value["seconds"],
        )
