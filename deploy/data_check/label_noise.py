"""Rows whose label may be wrong: confident learning (Northcutt et al. 2021, arXiv 1911.00068) by cleanlab.

Each row gets class probabilities from a logistic regression that has not seen it (five-fold), on features of the
frozen encoder or on the row's words. A row is suspected where the class that it is confidently given is another
than its own. It is a suspicion: a rare or hard text is suspected too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput

__all__ = ["FEWEST_OF_A_LABEL", "encoder_features", "out_of_fold", "suspected_labels", "word_features"]

FEWEST_OF_A_LABEL = 10
"""With fewer rows of a label nothing is said of label noise."""
_FOLDS = 5
_EXTRA = "not installed; run: pip install 'hanse[quality]'"


def suspected_labels(features: Any, labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of suspected rows, the most suspect first.

    Args:
        features: a row for each text, dense or sparse.
        labels: the given label of each text, by position from 0, each at least ten times.
        seed: of the folds.

    Raises:
        BadInput: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise BadInput(f"cleanlab: {_EXTRA}") from error
    probabilities = out_of_fold(features, labels, seed)
    found = find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="prune_by_noise_rate",
        n_jobs=1,
    )
    return np.asarray(found, dtype=np.int64)


def out_of_fold(features: Any, labels: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Class probabilities of each row by a model that was fitted without it: ``(rows, labels)``."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
    except ImportError as error:
        raise BadInput(f"scikit-learn: {_EXTRA}") from error
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stopped early ranks well enough
        given = cross_val_predict(
            LogisticRegression(max_iter=300), features, labels, cv=folds, method="predict_proba"
        )
    return np.asarray(given)


def word_features(texts: Sequence[str]) -> Any:
    """Weighted words of each text (tf-idf), sparse."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise BadInput(f"scikit-learn: {_EXTRA}") from error
    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]").fit_transform(texts)


def encoder_features(texts: Sequence[str], base: str, max_length: int) -> NDArray[np.float32]:
    """Mean token vector of each text from a frozen encoder on this machine: ``(texts, width)``, normalised.

    Raises:
        BadInput: ``base`` is not here; nothing is fetched.
    """
    import torch
    from transformers import AutoModel

    from common.base_model import resolve_base
    from common.device import choose_device
    from common.loading import one_load_at_a_time
    from common.pooling import mean_over_tokens
    from common.text import batches, load_tokenizer, tokenize

    if "@" in base:
        raise BadInput(f"--base {base}: a check of data fetches nothing; name the embedded model or a folder")
    path = resolve_base(base).path
    device = choose_device("auto")
    with one_load_at_a_time:
        encoder: Any = AutoModel.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    encoder = encoder.to(device).eval()
    tokenized = tokenize(load_tokenizer(path), texts, [0] * len(texts), max_length)
    found = np.zeros((len(texts), int(encoder.config.hidden_size)), np.float32)
    for batch in batches(tokenized, np.arange(len(texts)), 64):
        inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
        with torch.inference_mode():
            pooled = mean_over_tokens(encoder(**inputs).last_hidden_state, inputs["attention_mask"])
            pooled = torch.nn.functional.layer_norm(pooled.float(), pooled.shape[-1:])
        found[batch.indexes] = pooled.cpu().numpy()
    return found
