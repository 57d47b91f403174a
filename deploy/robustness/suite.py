"""The whole robustness report of a model on labelled texts, as data and as tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from deploy.open_model import OpenModel
from deploy.robustness.checks import CheckResult, checks_for, run_checks
from deploy.robustness.detection import Detection, detect
from deploy.robustness.substitution import Attack, attack

__all__ = ["RobustnessReport", "Settings", "Substitution", "checks_table", "robustness_report", "summary_table"]


@dataclass(frozen=True)
class Settings:
    """What is run, and how much of it."""

    seed: int = 7
    texts: int = 500
    """Most texts that the checks edit, drawn under the seed."""
    attacked: int = 100
    """Most texts that the attacker gets, the first of those."""
    attack: Attack = field(default_factory=Attack)
    positive: str = "positive"
    negative: str = "negative"
    """Names of the labels that praise and blame speak for."""
    examples: int = 0
    """Failing texts to show of each check."""


@dataclass(frozen=True)
class Substitution:
    """What gradient-guided substitution did."""

    texts: int
    accuracy_before: float
    accuracy_under_attack: float
    words_allowed: int
    words_replaced_mean: float | None
    """Over the texts that were turned; None where none was."""


@dataclass(frozen=True)
class RobustnessReport:
    """Everything that was found; the same for the same model, texts and settings."""

    seed: int
    texts: int
    accuracy: float
    checks: tuple[CheckResult, ...]
    substitution: Substitution | None
    """None where no text was to be attacked."""
    detection: tuple[Detection, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "seed": self.seed,
            "texts": self.texts,
            "accuracy": self.accuracy,
            "checks": [check.to_json() for check in self.checks],
            "substitution": vars(self.substitution) if self.substitution else None,
            "detection": [each.to_json() for each in self.detection],
        }


def robustness_report(
    model: OpenModel, texts: Sequence[str], targets: Sequence[int], settings: Settings
) -> RobustnessReport:
    """Run the suite, the attack and its detection on labelled texts."""
    rows = list(range(len(texts)))
    if len(rows) > settings.texts:
        rows = sorted(random.Random(settings.seed).sample(rows, settings.texts))
    chosen, wanted = [texts[row] for row in rows], [targets[row] for row in rows]
    suite = checks_for(model.labels, settings.positive, settings.negative)
    checks = run_checks(model.probabilities, chosen, wanted, suite, settings.seed, settings.examples)
    accuracy = float((model.probabilities(chosen).argmax(axis=1) == np.array(wanted)).mean())
    substitution, detection = _attacked(model, chosen, wanted, settings)
    return RobustnessReport(settings.seed, len(chosen), accuracy, tuple(checks), substitution, detection)


def _attacked(
    model: OpenModel, texts: Sequence[str], targets: Sequence[int], settings: Settings
) -> tuple[Substitution | None, tuple[Detection, ...]]:
    number = min(settings.attacked, len(texts))
    if number == 0:
        return None, ()
    victims = attack(model, texts[:number], targets[:number], settings.attack)
    turned = [victim for victim in victims if victim.fooled]
    mean = float(np.mean([victim.replaced for victim in turned])) if turned else None
    standing = len(victims) - len(turned)
    result = Substitution(number, len(victims) / number, standing / number, settings.attack.words, mean)
    pairs = [texts[victim.row] for victim in turned], [victim.text for victim in turned]
    return result, detect(model.probabilities, *pairs, settings.seed)


def checks_table(report: RobustnessReport) -> Table:
    """A table of the checks, the worst first within each kind."""
    table = Table(title=f"Checks (seed {report.seed}, {report.texts} texts)", title_justify="left")
    table.add_column("check")
    table.add_column("kind")
    table.add_column("expectation")
    for column in ("cases", "failures", "rate", "95 % interval", "accuracy"):
        table.add_column(column, justify="right")
    for check in report.checks:
        rate = "-" if check.failure_rate is None else f"{check.failure_rate:.1%}"
        between = "-" if check.lower is None else f"{check.lower:.1%} to {check.upper:.1%}"
        accuracy = "-"
        if check.accuracy_after is not None and check.accuracy_before is not None:
            accuracy = f"{check.accuracy_before:.3f} -> {check.accuracy_after:.3f}"
        counts = str(check.cases), str(check.failures)
        table.add_row(check.name, check.kind, escape(check.expectation), *counts, rate, between, accuracy)
    return table


def summary_table(report: RobustnessReport) -> Table:
    """A table of the attack and of how well its texts are detected."""
    table = Table(title="Gradient-guided substitution", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    found = report.substitution
    if found is not None:
        table.add_row(f"accuracy before, {found.texts} texts", f"{found.accuracy_before:.3f}")
        table.add_row(
            f"accuracy under attack, {found.words_allowed} words at most", f"{found.accuracy_under_attack:.3f}"
        )
        if found.words_replaced_mean is not None:
            table.add_row("words replaced in a text that was turned, mean", f"{found.words_replaced_mean:.2f}")
    for each in report.detection:
        table.add_row(
            f"detection by {each.score}: AUROC, {each.clean} pairs",
            f"{each.auroc:.3f} ({each.lower:.3f} to {each.upper:.3f})",
        )
        table.add_row(f"detection by {each.score}: found at 5 % false alarms", f"{each.detected_at_5_percent:.1%}")
    return table
