"""The one evaluation module: the same code scores at the coordinator, at a site and in an audit.

The path is ``batches -> predict_logits -> ScoreCounts -> Score -> Evaluation``.  Everything that a
score says follows from integers that add up (`ScoreCounts`), so parts scored in different places,
in any order and any grouping, merge into the same score to the last bit.

Importing this package imports neither torch nor scikit-learn.
"""

from __future__ import annotations

from common.evaluation.counts import CONFIDENCE_BINS, FIXED_POINT_ONE, ScoreCounts
from common.evaluation.entities import EntityScore
from common.evaluation.evaluate import Evaluation, evaluate_logits, evaluate_tags
from common.evaluation.masked import MaskedScore
from common.evaluation.predict import IndexedBatch, Precision, predict_logits
from common.evaluation.score import ClassScore, ReliabilityBin, Score

__all__ = [
    "CONFIDENCE_BINS",
    "FIXED_POINT_ONE",
    "ClassScore",
    "EntityScore",
    "Evaluation",
    "IndexedBatch",
    "MaskedScore",
    "Precision",
    "ReliabilityBin",
    "Score",
    "ScoreCounts",
    "evaluate_logits",
    "evaluate_tags",
    "predict_logits",
]
