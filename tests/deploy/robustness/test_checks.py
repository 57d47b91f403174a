"""Checks find what is planted in a model, and nothing in a model without fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from deploy.robustness.checks import TOLERANCE, CheckResult, checks_for, run_checks

LABELS = ["negative", "positive"]
TEXTS = [
    *(
        f"The film was {word} and the {thing} is long."
        for word in ("good", "bad", "fine", "poor")
        for thing in ("plot", "Cast")
    ),
    *("A good book, number 3.", "It is dull", "Good!", "The book was good."),
]
TARGETS = [int("good" in text.lower() or "fine" in text) for text in TEXTS]
GOOD = {"good", "fine", "love", "wonderful", "excellent", "delighted", "superb", "great"}
BAD = {"bad", "poor", "dull", "hate", "terrible", "awful", "disgusted", "boring"}

Model = Callable[[Sequence[str]], NDArray[np.float64]]


def model(score: Callable[[str], float]) -> Model:
    def predict(texts: Sequence[str]) -> NDArray[np.float64]:
        positive = np.array([1 / (1 + np.exp(-score(text))) for text in texts])
        return np.stack([1 - positive, positive], axis=1)

    return predict


def words(text: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in text).lower().split()


def sound(text: str) -> float:
    """Counts good and bad words, whatever the case; a plain not turns the sign of what follows."""
    found = words(text)
    total = sum((word in GOOD) - (word in BAD) for word in found)
    turned = -total if "not" in found and "know" not in found and "listed" not in found else total
    return 2.0 * turned + 0.1


def results(predict: Model, texts: Sequence[str] = TEXTS, seed: int = 3, **more: int) -> dict[str, CheckResult]:
    targets = [int("good" in text.lower() or "fine" in text) for text in texts]
    found = run_checks(predict, texts, targets, checks_for(LABELS, "positive", "negative"), seed, **more)
    return {each.name: each for each in found}


def test_a_sound_model_fails_only_where_its_words_are_misspelt() -> None:
    found = results(model(sound))
    assert {name for name, each in found.items() if each.failures} <= {"typo", "two typos"}
    assert all(each.cases for each in found.values())


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (lambda text: 5.0 if text.isupper() else sound(text), "upper case"),
        (lambda text: 5.0 if text.islower() else sound(text), "lower case"),
        (lambda text: -sound(text) if not any(c in ".!," for c in text) else sound(text), "punctuation"),
        (lambda text: -5.0 if len(text.split(".")) > 2 else sound(text), "neutral ending"),
        (lambda text: abs(sound(text)) * (1 if "good" in words(text) else -1), "synonym"),
        (lambda text: 3.0 * sum(w in GOOD for w in words(text)) - 2 + 4 * ("not" in words(text)), "negation"),
        (lambda text: sound(text) - 9.0 * ("love" in text or "wonderful" in text), "praise"),
        (lambda text: sound(text) + 9.0 * ("hate" in text or "terrible" in text), "blame"),
        (lambda text: sound(text) if sum(map(words(text).count, ("the", "and"))) != 2 else -9.0, "word drop"),
    ],
)
def test_a_planted_fault_is_found_by_its_check(fault: Callable[[str], float], check: str) -> None:
    assert results(model(sound))[check].failures == 0
    assert results(model(fault))[check].failures > 0


def test_a_label_that_turns_is_counted_and_shown_only_on_demand() -> None:
    shouting = model(lambda text: 5.0 if text.isupper() else sound(text))
    found = results(shouting, examples=2)["upper case"]
    turned = [t for t in TEXTS if sound(t) < 0]
    assert (found.cases, found.failures) == (len(TEXTS), len(turned))
    assert found.accuracy_after == pytest.approx(np.mean(TARGETS))
    assert len(found.examples) == 2
    assert found.examples[0].after == found.examples[0].before.upper()
    assert results(shouting)["upper case"].examples == ()
    assert "film" not in repr(found)


def test_a_direction_may_be_missed_within_the_tolerance_only() -> None:
    def blamed(lift: float) -> CheckResult:
        def predict(texts: Sequence[str]) -> NDArray[np.float64]:
            positive = np.array([0.5 + lift * (len(text.split(".")) > 2) for text in texts])
            return np.stack([1 - positive, positive], axis=1)

        return results(predict, ["It was fine."])["blame"]

    assert blamed(TOLERANCE - 0.01).failures == 0
    assert blamed(TOLERANCE + 0.01).failures == 1


def test_edits_depend_on_seed_check_and_text_alone() -> None:
    def everything(texts: Sequence[str], seed: int) -> dict[str, CheckResult]:
        return results(model(lambda text: (hash(text) % 7) - 3.0), texts, seed, examples=99)

    turned = list(TEXTS)
    random.Random(0).shuffle(turned)
    one, other = everything(TEXTS, 3), everything(turned, 3)
    for name, each in one.items():
        assert set(each.examples) == set(other[name].examples)
    assert everything(TEXTS, 3) == one
    assert everything(TEXTS, 4) != one


def test_the_interval_is_the_exact_one() -> None:
    found = results(model(lambda text: 5.0 if text.isupper() else sound(text)))["upper case"]
    wanted = binomtest(found.failures, found.cases).proportion_ci(0.95, method="exact")
    assert (found.lower, found.upper) == pytest.approx((wanted.low, wanted.high))


def test_labels_without_praise_or_blame_are_not_checked_for_them() -> None:
    names = {check.name for check in checks_for(["sports", "world"], "positive", "negative")}
    assert not names & {"praise", "blame"}
    assert "praise" in {check.name for check in checks_for(["Bad", "Good"], "good", "bad")}


def test_a_check_that_applies_to_nothing_says_so() -> None:
    found = results(model(sound), ["ok"])["typo"]
    assert (found.cases, found.failure_rate) == (0, None)
