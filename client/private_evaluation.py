"""A site scores the global model on its own validation set: one release, paid for like a step (PRIVACY P16).

The order is that of training: reserved on disk, then the data is looked at, then settled, then it leaves. What
fails on the way counts in full (P7).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import HanseError, NotYet
from common.evaluation.figures import Predictions
from common.evaluation.predict import predict_logits
from common.evaluation.private_counts import ReleasedCounts, ReleasePlan, release, unit_histogram
from common.examples import Example
from common.model import Classifier
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.randomness import SystemRandomness
from common.text import TokenizedTexts, batches
from common.weights import Weights

__all__ = ["ValidationSet", "release_digest", "release_validation", "validation_apart"]

_BATCH_SIZE = 64


@dataclass(frozen=True)
class ValidationSet:
    """A site's validation rows, which never train."""

    texts: TokenizedTexts = field(repr=False)
    parts: NDArray[np.int64] = field(repr=False)
    """Slice of each row, by position in the plan."""


def validation_apart(training: Sequence[Example], validation: Sequence[Example]) -> None:
    """Make sure that no validation unit trains.

    Raises:
        HanseError: a person, or the text of a row without one, is in both parts; says nothing of which.
    """
    trained = {example.group or example.text for example in training}
    if any((example.group or example.text) in trained for example in validation):
        raise HanseError("evaluation release: a validation unit is among the training rows; keep them apart")


def release_digest(plan: ReleasePlan, weights: Weights) -> str:
    """SHA-256 of all that is asked for: the plan and the weights that are scored (P9)."""
    digest = hashlib.sha256(plan.digest.encode())
    for name in sorted(weights):
        digest.update(json.dumps([name, list(weights[name].shape)]).encode())
        digest.update(weights[name].astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def release_validation(
    budget: PrivacyBudget,
    use: StudyUse,
    number: int,
    plan: ReleasePlan,
    classifier: Classifier,
    validation: ValidationSet,
) -> ReleasedCounts:
    """Score the classifier as it is on the validation set, and release noisy counts of it.

    Args:
        budget: of the dataset that the validation rows belong to; it is opened.
        use: the study and run that ask; the release is a study of its own in a budget of kind "plan".
        number: which release of that run it is, from 1; each is answered once (P9).
        plan: what is released, and how noisy.
        classifier: with the global weights loaded.
        validation: the site's own rows.

    Raises:
        BudgetExceeded: the release does not fit; nothing was looked at.
        PolicyRefusal: it was asked before.
        NotYet: another task than sequence classification.
    """
    if classifier.kind != "sequence-classification":
        raise NotYet(
            f'task.kind = "{classifier.kind}": evaluation at a site: not yet; use sequence-classification'
        )
    budget.admit_study(use, plan.mechanism)
    asked = RoundRequest(number, release_digest(plan, classifier.weights()), plan.mechanism)
    held = budget.reserve(use, asked)
    try:
        counts = release(plan, _histogram(plan, classifier, validation), SystemRandomness())
    except BaseException:
        budget.settle(held, "failed")
        raise
    budget.settle(held, "completed")
    return counts


def _histogram(plan: ReleasePlan, classifier: Classifier, validation: ValidationSet) -> NDArray[np.float64]:
    texts = validation.texts
    if not len(texts):
        return np.zeros(plan.shape)  # an empty set is released like any other
    device: torch.device = next(classifier.parameters()).device
    logits = predict_logits(classifier, batches(texts, np.arange(len(texts)), _BATCH_SIZE), device)
    # What is not finite counts as undecided and stops nothing (P12).
    logits = np.nan_to_num(logits, nan=0.0, posinf=0.0, neginf=0.0)
    predictions = Predictions(logits, texts.labels, plan.labels)
    return unit_histogram(plan, predictions, validation.parts, texts.persons)
