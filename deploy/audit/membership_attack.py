"""Membership inference on inserted texts: LiRA against the private model, and against a twin without privacy.

A record's score is the logit of its label's probability under the attacked model, less the mean over reference
models, few of which were trained with it: the offline test of Carlini et al. 2022 (arXiv 2112.03570) with one
variance for all records, as it should be with few references.

The twin trains the whole model on the inserted texts alone, without clipping and noise, until it knows them.
It shows that the attack can attack: near chance on the private model says nothing unless the twin gives way.
Public, synthetic or embedded data only (PRIVACY P20).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.trainer import LocalTrainer, SiteFacts
from common.audit.membership import RateAtRate, area_under_curve, can_attack, rates_at
from common.audit.trade_off import curve_of
from common.device import choose_device
from common.model import build_classifier
from common.study import Study
from common.text import TokenizedTexts
from common.wire import Phase, RoundPlan
from deploy.audit.canaries import CanaryNetwork, coins
from deploy.audit.pipeline import Released
from deploy.audit.result import Bound, Fact
from deploy.audit.site_copy import SiteCopy
from deploy.audit.text_canaries import joined, losses, ordinary, random_texts

__all__ = ["MembershipResult", "TwinTraining", "membership_attack"]

_RATES = (0.001, 0.01)
_MEMBERS = 0.2
"""Share of the texts that are members: a false positive rate of 1 % needs 1,000 others."""
_TWIN_BATCH = 64
_LEAST_LOSS = 1e-12


@dataclass(frozen=True)
class TwinTraining:
    """How long and how fast the twin learns its members by heart; AdamW."""

    epochs: int = 30
    learning_rate: float = 4e-4


@dataclass(frozen=True)
class MembershipResult:
    """Verdicts on the private model, and figures of both."""

    bounds: tuple[Bound, ...]
    facts: tuple[Fact, ...]


def membership_attack(
    copy: SiteCopy,
    records: int,
    shadows: int,
    seed: int,
    confidence: float,
    training: TwinTraining | None = None,
) -> MembershipResult:
    """Attack ``records`` inserted texts, a fifth of them members by coin.

    Args:
        copy: of the site; trains ``1 + shadows`` times with privacy.
        records: texts, members and not.
        shadows: reference models of each kind, at least 1, each with members of its own.
        seed: of texts and coins.
        confidence: of each rate's interval and of each area's.
        training: of the twin; suits a base of the embedded one's size if left out.
    """
    vocabulary = int(copy.classifier.network.get_input_embeddings().num_embeddings)
    inserted = random_texts(copy.texts, vocabulary, len(copy.study.task.labels), records, seed)
    members = coins(records, seed + 1, _MEMBERS)
    splits = [coins(records, seed + 2 + each, _MEMBERS) for each in range(shadows)]
    private = _scores(_private(copy, inserted, members), [_private(copy, inserted, each) for each in splits])
    twin = _Twin(copy, inserted, training or TwinTraining())
    open_ = _scores(twin(members), [twin(each) for each in splits])
    curve = curve_of(copy.claimed)
    rates = rates_at(private[members], private[~members], _RATES, curve, confidence)
    twin_rates = rates_at(open_[members], open_[~members], _RATES, curve, confidence)
    return MembershipResult(
        tuple(_bound(rate) for rate in rates),
        (
            _area("area under the curve, private model", private, members, confidence),
            _area("area under the curve, twin without privacy", open_, members, confidence),
            *(_twin_fact(rate) for rate in twin_rates),
        ),
    )


def _scores(attacked: NDArray[np.float64], references: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """By how much the attacked model is surer of the true label than the references are, as logits."""
    scores: NDArray[np.float64] = _logit(attacked) - np.mean([_logit(each) for each in references], axis=0)
    return scores


def _logit(losses_of_label: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of p / (1 - p), where the loss is -ln p, from the loss alone."""
    found: NDArray[np.float64] = -losses_of_label - np.log(-np.expm1(-np.maximum(losses_of_label, _LEAST_LOSS)))
    return found


def _private(copy: SiteCopy, inserted: TokenizedTexts, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    copy.train(copy.trainer(ordinary(joined(copy.texts, inserted, chosen)), _nothing))
    return losses(copy.classifier, inserted)


class _Twin:
    """Trains a model without privacy on some of the texts alone; gives its losses on all."""

    def __init__(self, copy: SiteCopy, inserted: TokenizedTexts, training: TwinTraining) -> None:
        self._study = _without_privacy(copy.study, training.learning_rate)
        self._epochs = training.epochs
        self._inserted = inserted
        device = choose_device(copy.study.training.device)
        self._classifier = build_classifier(self._study).place(device)

    def __call__(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        members = int(chosen.sum())
        batch = min(_TWIN_BATCH, members)
        privacy = self._study.privacy.model_copy(update={"batch_size": batch})
        study = self._study.model_copy(update={"privacy": privacy})
        self._classifier.load(self._classifier.initial)
        facts, texts = SiteFacts("twin", 0, members), _only(self._inserted, chosen)
        trainer = LocalTrainer(facts, study, texts, self._classifier, 0.0)
        plan = RoundPlan(study, 1, Phase.TRAIN, max(1, self._epochs * members // batch), "0" * 32)
        trainer.train(plan, self._classifier.weights())
        return losses(self._classifier, self._inserted)


def _only(texts: TokenizedTexts, chosen: NDArray[np.bool_]) -> TokenizedTexts:
    which = np.flatnonzero(chosen)
    rows = [texts.tokens[slice(*texts.offsets[i : i + 2])] for i in which]
    offsets = np.concatenate([[0], np.cumsum(texts.lengths[which])])
    return TokenizedTexts(np.concatenate(rows), offsets, texts.labels[which], texts.pad_token)


def _without_privacy(study: Study, learning_rate: float) -> Study:
    """The whole model, an adaptive optimizer, no privacy: on public data, to be attacked."""
    model = study.model.model_copy(update={"trainable": "full", "warm_start_steps": 0})
    privacy = study.privacy.model_copy(update={"enabled": False, "unit": "example", "group_column": ""})
    optimizer = {"optimizer": "adamw", "learning_rate": learning_rate, "weight_decay": 0.0}
    training = study.training.model_copy(update=optimizer | {"physical_batch_size": _TWIN_BATCH})
    return study.model_copy(update={"model": model, "privacy": privacy, "training": training})


def _bound(rate: RateAtRate) -> Bound:
    method = f"true positives at {rate.asked:.1%} false ones"
    if rate.true_positives is None or rate.false_positives is None or rate.most_allowed is None:
        detail = f"not measurable with {rate.non_members} non-members tested"
        return Bound(
            method=method, epsilon=None, exceeds=False, detail=detail, ceiling="none: nothing was measured"
        )
    found = rate.true_positives
    return Bound(
        method=method,
        epsilon=None,
        exceeds=rate.outcome == "exceeds",
        detail=f"{found.estimate:.4f} [{found.lower:.4f}, {found.upper:.4f}] of {rate.members} members, at "
        f"{rate.false_positives.estimate:.4f} of {rate.non_members} non-members; the claim allows "
        f"{rate.most_allowed:.4f}",
        ceiling="a rate within what the claim allows proves no privacy",
    )


def _twin_fact(rate: RateAtRate) -> Fact:
    name = f"true positives at {rate.asked:.1%} false ones, twin without privacy"
    if rate.true_positives is None:
        return Fact(name=name, value=None, detail=f"not measurable with {rate.non_members} non-members tested")
    words = "the attack can attack" if can_attack(rate) else "the attack is too weak here to say anything"
    found = rate.true_positives
    return Fact(name=name, value=found.estimate, lower=found.lower, upper=found.upper, detail=words)


def _area(name: str, scores: NDArray[np.float64], members: NDArray[np.bool_], confidence: float) -> Fact:
    found = area_under_curve(scores[members], scores[~members], confidence)
    detail = f"{int(members.sum())} members, {int((~members).sum())} non-members"
    return Fact(name=name, value=found.estimate, lower=found.lower, upper=found.upper, detail=detail)


def _nothing(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
    """The attacker sees no step."""
