"""What a site makes of its rows and a study before it trains: tokens, a seal of the data, a proven model."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from client.preflight import require_preflight
from common.device import choose_device
from common.examples import Example
from common.model import Classifier, build_classifier
from common.privacy.ledger.commitment import CommitmentKey, DataSeal
from common.study import Study
from common.text import TokenizedTexts
from common.tokenizing import tokenized_for

__all__ = ["proven_classifier", "sealed", "tokenized"]


def tokenized(tokenizer: PreTrainedTokenizerBase, study: Study, examples: Sequence[Example]) -> TokenizedTexts:
    """The rows as the base model's ``tokenizer`` reads them, with their persons under unit "group"."""
    persons = [example.group for example in examples] if study.privacy.unit == "group" else None
    return tokenized_for(tokenizer, study, examples, persons)


def sealed(key: CommitmentKey, examples: Sequence[Example]) -> DataSeal:
    """What the site's ledger commits to: every row's label, person and text, in order (P4)."""
    return key.seal(f"{example.target}\0{example.group}\0{example.text}".encode() for example in examples)


def proven_classifier(study: Study, device_index: int = 0) -> Classifier:
    """The study's model on its device, proven to train privately before anything is reserved (P14).

    Args:
        study: says which model and device.
        device_index: which of several GPUs.

    Raises:
        RunFailed: the preflight failed.
    """
    classifier = build_classifier(study).place(choose_device(study.training.device, index=device_index))
    if study.privacy.noised_at_sites:
        require_preflight(classifier, study)
    return classifier
