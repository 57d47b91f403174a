"""The black-box audit: inserted texts, and guesses from the released model's loss alone.

What an outsider with the final model could show. It sees large faults alone: a bound near zero is what a correct
pipeline and many a broken one give; noise, sampler and sensitivity tests see those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.audit.one_run import Guesses, count_guesses, one_run_epsilon
from deploy.audit.canaries import CanaryNetwork, coins
from deploy.audit.pipeline import Released
from deploy.audit.result import Bound
from deploy.audit.site_copy import SiteCopy
from deploy.audit.text_canaries import joined, losses, ordinary, random_texts

__all__ = ["black_box_bound"]


def black_box_bound(copy: SiteCopy, canaries: int, guesses: int, seed: int, confidence: float) -> Bound:
    """Train the study with random texts inserted, each by its own coin, and guess which from the model."""
    included = coins(canaries, seed)
    vocabulary = int(copy.classifier.network.get_input_embeddings().num_embeddings)
    inserted = random_texts(copy.texts, vocabulary, len(copy.study.task.labels), canaries, seed + 1)
    copy.classifier.load(copy.classifier.initial)
    before = losses(copy.classifier, inserted)
    copy.train(copy.trainer(ordinary(joined(copy.texts, inserted, included)), _nothing))
    scores = before - losses(copy.classifier, inserted)
    made = count_guesses(scores, included, guesses // 2, guesses - guesses // 2)
    found = one_run_epsilon(made, copy.delta, confidence)
    most = one_run_epsilon(Guesses(canaries, guesses, guesses), copy.delta, confidence)
    words = f"with every guess right it would be {most:.3g}"
    return Bound(
        method="black box",
        epsilon=found,
        exceeds=found > copy.epsilon,
        detail=f"{made.right} of {made.made} guesses right on {canaries} inserted texts",
        ceiling=words if most > copy.epsilon else f"{words}: it can never contradict this claim",
    )


def _nothing(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
    """The attacker sees no step."""
