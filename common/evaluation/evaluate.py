"""The evaluation of one model on one set of examples: overall, and by domain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from common.errors import BadInput
from common.evaluation.counts import ScoreCounts
from common.evaluation.score import Score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Evaluation", "evaluate_logits"]


@dataclass(frozen=True)
class Evaluation:
    """How one model did on one set of examples, and on the parts of it that are named."""

    overall: Score
    """The score on all examples."""
    by_domain: Mapping[str, Score] = field(default_factory=dict)
    """The score on each domain's examples, by name; empty where the examples name no domain."""

    @property
    def worst_domain(self) -> str | None:
        """The domain with the lowest accuracy; None without domains.

        Among equals the one with the higher loss, then the first by name.
        """
        return min(
            self.by_domain,
            key=lambda name: (self.by_domain[name].accuracy, -self.by_domain[name].loss, name),
            default=None,
        )

    def to_json(self) -> dict[str, object]:
        """Return a plain dictionary with the keys overall, by_domain (sorted by name), worst_domain."""
        return {
            "overall": self.overall.to_json(),
            "by_domain": {name: self.by_domain[name].to_json() for name in sorted(self.by_domain)},
            "worst_domain": self.worst_domain,
        }

    @classmethod
    def from_json(cls, value: object) -> Evaluation:
        """Restore an evaluation from `to_json`'s dictionary.

        Raises `BadInput` for anything else, and where a stated figure does not follow from its counts.
        """
        keys = {"overall", "by_domain", "worst_domain"}
        if not isinstance(value, Mapping) or set(value) != keys or not isinstance(value["by_domain"], Mapping):
            raise BadInput("evaluation: must be an object with the keys overall, by_domain and worst_domain")
        evaluation = cls(
            overall=_score(value["overall"], "overall"),
            by_domain={
                str(name): _score(score, f"by_domain[{name!r}]") for name, score in value["by_domain"].items()
            },
        )
        if value["worst_domain"] != evaluation.worst_domain:
            raise BadInput(
                f"evaluation: worst_domain = {value['worst_domain']!r}: "
                f"the scores give {evaluation.worst_domain!r}"
            )
        return evaluation


def evaluate_logits(logits: ArrayLike, targets: ArrayLike, domains: Sequence[str] | None = None) -> Evaluation:
    """Score ``logits`` ``(examples, labels)`` against ``targets`` ``(examples,)``, overall and by domain.

    ``domains`` names the domain of each example, in the same order.  Raises what `ScoreCounts.of`
    raises, and `BadInput` where there are no examples or not one domain for each.
    """
    scores, labels = np.asarray(logits), np.asarray(targets)
    overall = Score(ScoreCounts.of(scores, labels))
    if domains is None:
        return Evaluation(overall)
    if len(domains) != overall.examples:
        raise BadInput(f"{len(domains)} domains for {overall.examples} examples: must be one for each")
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, domain in enumerate(domains):
        rows[str(domain)].append(row)
    return Evaluation(
        overall,
        {name: Score(ScoreCounts.of(scores[rows[name]], labels[rows[name]])) for name in sorted(rows)},
    )


def _score(value: object, where: str) -> Score:
    """Restore one score, its place in the evaluation ahead of what is wrong with it."""
    try:
        return Score.from_json(value)
    except BadInput as error:
        raise BadInput(f"evaluation: {where}: {error}") from error
