"""The evaluation of one model on one set of examples: overall, and by domain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from common.errors import BadInput
from common.evaluation.counts import ScoreCounts
from common.evaluation.entities import EntityScore
from common.evaluation.masked import MaskedScore
from common.evaluation.score import Score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Evaluation", "evaluate_logits", "evaluate_tags", "predicted_tags"]


@dataclass(frozen=True)
class Evaluation:
    """How one model did on one set of examples, and on the parts of it that are named."""

    overall: Score | MaskedScore
    """The score on all examples: texts, tagged words, or hidden tokens."""
    by_domain: Mapping[str, Score | MaskedScore] = field(default_factory=dict)
    """The score on each domain's examples, by name; empty where the examples name no domain."""
    entities: EntityScore | None = None
    """Whole entities, where words have tags."""
    entities_by_domain: Mapping[str, EntityScore] = field(default_factory=dict)

    @property
    def headline(self) -> float:
        """The figure by which models are compared, from 0 to 1, larger is better.

        Entity F1 where words have tags, the likelihood of hidden tokens, else accuracy.
        """
        if isinstance(self.overall, MaskedScore):
            return self.overall.likelihood
        return self.overall.accuracy if self.entities is None else self.entities.overall.f1

    @property
    def worst_domain(self) -> str | None:
        """The domain that does worst by the `headline`: accuracy, or entity F1; None without domains.

        Among equals the one with the higher loss, then the first by name.
        """

        def standing(name: str) -> tuple[float, float, str]:
            score, entities = self.by_domain[name], self.entities_by_domain.get(name)
            return (Evaluation(score, entities=entities).headline, -score.loss, name)

        return min(self.by_domain, key=standing, default=None)

    def to_json(self) -> dict[str, object]:
        """Return a plain dictionary: overall, by_domain (sorted by name), worst_domain; entities where known."""
        said: dict[str, object] = {
            "overall": self.overall.to_json(),
            "by_domain": {name: self.by_domain[name].to_json() for name in sorted(self.by_domain)},
            "worst_domain": self.worst_domain,
        }
        if self.entities is not None:
            said["entities"] = self.entities.to_json()
            named = self.entities_by_domain
            said["entities_by_domain"] = {name: named[name].to_json() for name in sorted(named)}
        return said

    @classmethod
    def from_json(cls, value: object) -> Evaluation:
        """Restore an evaluation from `to_json`'s dictionary.

        Raises `BadInput` for anything else, and where a stated figure does not follow from its counts.
        """
        keys = {"overall", "by_domain", "worst_domain"}
        more = {"entities", "entities_by_domain"}
        if (
            not isinstance(value, Mapping)
            or set(value) - more != keys
            or not isinstance(value["by_domain"], Mapping)
        ):
            raise BadInput("evaluation: must be an object with the keys overall, by_domain and worst_domain")
        named = value.get("entities_by_domain", {})
        if not isinstance(named, Mapping):
            raise BadInput("evaluation: entities_by_domain: must be an object")
        evaluation = cls(
            overall=_score(value["overall"], "overall"),
            by_domain={
                str(name): _score(score, f"by_domain[{name!r}]") for name, score in value["by_domain"].items()
            },
            entities=EntityScore.from_json(value["entities"]) if "entities" in value else None,
            entities_by_domain={str(name): EntityScore.from_json(score) for name, score in named.items()},
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


def evaluate_tags(
    labels: Sequence[str],
    logits: ArrayLike,
    true: Sequence[Sequence[int]],
    words: Sequence[Sequence[int]],
    domains: Sequence[str] | None = None,
) -> Evaluation:
    """Score tags of words: each word by itself, and whole entities, overall and by domain.

    A word without a token of its own, or beyond the longest input, has no logits. It is predicted to be no entity,
    and is not among the words that are scored by themselves.

    Args:
        labels: names of the tags, BIO.
        logits: of the words that have a token, sentence after sentence, ``(words, labels)``.
        true: tag of every word of every sentence.
        words: which words of each sentence have logits, in their order.
        domains: names each sentence's domain.
    """
    scores = np.asarray(logits)
    targets = np.array([own[word] for own, seen in zip(true, words, strict=True) for word in seen], np.int64)
    named = None if domains is None else [d for d, seen in zip(domains, words, strict=True) for _ in seen]
    by_word = evaluate_logits(scores, targets, named)
    predicted = predicted_tags(labels, scores, true, words)
    by_domain: dict[str, EntityScore] = {}
    for domain in sorted(set(domains or ())):
        rows = [row for row, own in enumerate(domains or ()) if own == domain]
        by_domain[str(domain)] = EntityScore.of(labels, [true[r] for r in rows], [predicted[r] for r in rows])
    return Evaluation(
        by_word.overall,
        by_word.by_domain,
        EntityScore.of(labels, true, predicted),
        {name: by_domain[name] for name in by_word.by_domain},
    )


def predicted_tags(
    labels: Sequence[str],
    logits: ArrayLike,
    true: Sequence[Sequence[int]],
    words: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The likeliest tag of each word of each sentence, "O" where it has no logits; as `evaluate_tags` takes it."""
    outside = labels.index("O")
    guesses = iter(np.asarray(logits).argmax(axis=1).tolist())
    predicted = []
    for own, seen in zip(true, words, strict=True):
        tags = [outside] * len(own)
        for word in seen:
            tags[word] = next(guesses)
        predicted.append(tags)
    return predicted


def _score(value: object, where: str) -> Score | MaskedScore:
    """Restore one score, its place in the evaluation ahead of what is wrong with it."""
    try:
        if isinstance(value, Mapping) and "masked_counts" in value:
            return MaskedScore.from_json(value)
        return Score.from_json(value)
    except BadInput as error:
        raise BadInput(f"evaluation: {where}: {error}") from error
