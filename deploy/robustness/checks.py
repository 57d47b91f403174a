"""Invariance and directional checks in the CheckList manner (Ribeiro et al. 2020, arXiv 2005.04118).

An invariance check (INV) edits a text so that its meaning stays; it fails where the predicted label changes. A
directional check (DIR) edits it so that the meaning moves a known way; it fails where the probability of a label
moves the other way by more than :data:`TOLERANCE`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.audit.intervals import interval
from deploy.robustness import edits
from deploy.robustness.words import BLAME, NEUTRAL_ENDINGS, PRAISE

__all__ = ["TOLERANCE", "Check", "CheckResult", "Failure", "checks_for", "run_checks"]

TOLERANCE = 0.1
"""How far a probability may move the wrong way before a directional check fails (CheckList's own value)."""

Predict = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to probabilities ``(texts, labels)``."""


@dataclass(frozen=True)
class Check:
    """One edit and what a sound model does under it."""

    name: str
    kind: Literal["INV", "DIR"]
    expectation: str
    edit: edits.Edit
    label: int | None = None
    """DIR: whose probability is looked at; None: that of the label predicted before the edit."""
    rises: bool = False
    """DIR: whether that probability may only rise (else: may only fall)."""


@dataclass(frozen=True)
class Failure:
    """A text on which a check failed; shown only to who asks for it."""

    before: str = field(repr=False)
    after: str = field(repr=False)
    confidence_before: float
    """Probability before the edit: of the label first predicted (INV), or of the label looked at (DIR)."""
    confidence_after: float


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    kind: Literal["INV", "DIR"]
    expectation: str
    cases: int
    """Texts to which the edit applied."""
    failures: int
    failure_rate: float | None
    """Failures over cases; None without cases."""
    lower: float | None
    """95 % interval of the failure rate (Clopper, Pearson 1934)."""
    upper: float | None
    accuracy_before: float | None
    """Accuracy on the texts to which the edit applied."""
    accuracy_after: float | None
    """INV: accuracy on the edited texts, whose labels stay. DIR: None, since the label may change."""
    examples: tuple[Failure, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def checks_for(labels: Sequence[str], positive: str, negative: str) -> list[Check]:
    """The suite; praise and blame are checked only where ``labels`` has both these names (in any case)."""
    suite = [
        Check("typo", "INV", "two letters swapped change nothing", edits.typo),
        Check("two typos", "INV", "two such swaps change nothing", edits.two_typos),
        Check("upper case", "INV", "capitals change nothing", edits.upper_case),
        Check("lower case", "INV", "small letters change nothing", edits.lower_case),
        Check("punctuation", "INV", "no punctuation changes nothing", edits.no_punctuation),
        Check("word drop", "INV", "a function word less changes nothing", edits.dropped_word),
        Check("synonym", "INV", "a synonym changes nothing", edits.swapped_synonym),
        Check("neutral ending", "INV", "a neutral sentence more changes nothing", edits.appended(NEUTRAL_ENDINGS)),
        Check("negation", "DIR", "the answer's probability does not rise under not", edits.negated),
    ]
    named = {label.lower(): position for position, label in enumerate(labels)}
    good, bad = named.get(positive.lower()), named.get(negative.lower())
    if good is not None and bad is not None:
        praise, blame = edits.appended(PRAISE), edits.appended(BLAME)
        suite += [
            Check("praise", "DIR", f"P({labels[good]}) does not fall under praise", praise, good, rises=True),
            Check("blame", "DIR", f"P({labels[good]}) does not rise under blame", blame, good),
        ]
    return suite


def run_checks(
    predict: Predict,
    texts: Sequence[str],
    targets: Sequence[int],
    suite: Sequence[Check],
    seed: int,
    examples: int = 0,
) -> list[CheckResult]:
    """Run ``suite`` on labelled texts; the same seed gives the same edits, text by text.

    Args:
        predict: the model.
        texts: what is edited.
        targets: true labels, by position.
        suite: which checks.
        seed: of the edits; an edit depends on seed, check and text alone.
        examples: how many failures to keep of each check.
    """
    before = predict(texts)
    return [_run(predict, check, texts, np.asarray(targets), before, (seed, examples)) for check in suite]


def _run(
    predict: Predict,
    check: Check,
    texts: Sequence[str],
    targets: NDArray[np.int64],
    before: NDArray[np.float64],
    seed_and_examples: tuple[int, int],
) -> CheckResult:
    seed, examples = seed_and_examples
    edited = [check.edit(text, random.Random(f"{seed}\0{check.name}\0{text}")) for text in texts]
    rows = np.array([row for row, text in enumerate(edited) if text is not None], dtype=np.int64)
    if not len(rows):
        return CheckResult(check.name, check.kind, check.expectation, 0, 0, None, None, None, None, None)
    changed = [text for text in edited if text is not None]
    after, first = predict(changed), before[rows]
    answered = first.argmax(axis=1)
    looked = answered if check.label is None else np.full(len(rows), check.label)
    one, other = first[np.arange(len(rows)), looked], after[np.arange(len(rows)), looked]
    if check.kind == "INV":
        failed = after.argmax(axis=1) != answered
        accuracy_after = float((after.argmax(axis=1) == targets[rows]).mean())
    else:
        failed = (one - other if check.rises else other - one) > TOLERANCE
        accuracy_after = None
    rate = interval(int(failed.sum()), len(rows))
    shown = [Failure(texts[rows[i]], changed[i], float(one[i]), float(other[i])) for i in np.flatnonzero(failed)]
    return CheckResult(
        check.name,
        check.kind,
        check.expectation,
        len(rows),
        int(failed.sum()),
        rate.estimate,
        rate.lower,
        rate.upper,
        float((answered == targets[rows]).mean()),
        accuracy_after,
        tuple(shown[:examples]),
    )
