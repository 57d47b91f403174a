"""From a task's examples to tokens with what is to be learned of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from common.examples import Example
from common.study import Study
from common.text import TokenizedTexts, tokenize, tokenize_words
from common.token_targets import Masking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["tokenized_for"]


def tokenized_for(
    tokenizer: PreTrainedTokenizerBase,
    study: Study,
    examples: Sequence[Example],
    persons: Sequence[str] | None = None,
) -> TokenizedTexts:
    """The examples as the base model's tokenizer reads them, with labels, tags or a mask after the study's task.

    ``persons`` names whose each example is; None: each is a unit of its own.
    """
    texts, length = [example.text for example in examples], study.task.max_length
    if study.task.kind == "token-classification":
        return tokenize_words(tokenizer, texts, [example.tags for example in examples], length, persons)
    tokens = tokenize(tokenizer, texts, [example.label for example in examples], length, persons)
    if study.task.kind == "masked-language-modeling":
        return replace(tokens, masking=Masking.of(tokenizer, study.study.seed))
    return tokens
