"""The charts and tables of a report, drawn from the facts of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.evaluation import Evaluation
from common.study import Study
from deploy.report.charts import Bar, Chart, Frame, Series, bar_chart, line_chart
from deploy.report.comparison import label_of, varying_keys
from deploy.report.facts import RunFacts

__all__ = [
    "Table",
    "by_round",
    "confusion",
    "epsilon_bars",
    "epsilon_lines",
    "extra_tables",
    "headline_name",
    "privacy_utility",
    "reliability",
    "score_columns",
    "score_rows",
]

_SCORES = {
    "examples": "examples",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "matthews_correlation": "MCC",
    "loss": "loss",
    "perplexity": "perplexity",
    "expected_calibration_error": "ECE",
}
_EXTRAS = {
    "entities": "Whole entities",
    "calibration": "Calibration",
    "robustness": "Robustness",
    "attributions": "Attributions",
    "contribution": "Contribution",
    "fairness": "Fairness",
}
"""Parts of ``result.json`` that not every run has; shown as tables where they are there."""
_MOST_ROWS = 200
_HEADLINES = {"token-classification": "entity F1", "masked-language-modeling": "likelihood of hidden tokens"}


@dataclass(frozen=True)
class Table:
    """A table of words."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def by_round(runs: Sequence[RunFacts]) -> list[Chart]:
    """Headline figure and loss on the validation set: a line a run, and the worst domain's of a single run."""
    figure, loss = [], []
    for run in runs:
        scored = [(record.round, record.evaluation) for record in run.rounds if record.evaluation]
        name = "all" if len(runs) == 1 else run.name
        figure.append(Series(name, tuple((number, each.headline) for number, each in scored)))
        loss.append(Series(name, tuple((number, each.overall.loss) for number, each in scored)))
        if len(runs) == 1 and any(len(each.by_domain) > 1 for _, each in scored):
            worst = [(number, _worst(each)) for number, each in scored if each.worst_domain]
            figure.append(Series("worst domain", tuple((number, each.headline) for number, each in worst)))
            loss.append(Series("worst domain", tuple((number, each.overall.loss) for number, each in worst)))
    told = headline_name(runs[0].study) if runs else "accuracy"
    charts = [
        line_chart(Frame(f"{told[0].upper()}{told[1:]} on the validation set by round", "round", told), figure),
        line_chart(Frame("Loss on the validation set by round", "round", "log loss"), loss),
    ]
    return [chart for chart in charts if chart]


def headline_name(study: Study) -> str:
    """What the figure is called by which models of the study's task are compared."""
    return _HEADLINES.get(study.task.kind, "accuracy")


def _worst(evaluation: Evaluation) -> Evaluation:
    """The evaluation of the worst domain alone."""
    name = str(evaluation.worst_domain)
    return Evaluation(evaluation.by_domain[name], entities=evaluation.entities_by_domain.get(name))


def epsilon_lines(run: RunFacts) -> Chart | None:
    """Each site's epsilon as it grew."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for record in run.rounds:
        for entry in record.sites:
            if entry.epsilon is not None:
                lines.setdefault(entry.site, []).append((record.round, entry.epsilon))
    series = [Series(name, tuple(points)) for name, points in lines.items()]
    return line_chart(Frame("Epsilon of each site by round", "round", "epsilon", y_low=0.0), series)


def epsilon_bars(run: RunFacts) -> Chart | None:
    """Each site's epsilon against its budget."""
    bars = [
        Bar(
            site.name,
            site.epsilon,
            site.epsilon_budget or site.epsilon,
            f"{site.epsilon:.3f} of {site.epsilon_budget:g}",
        )
        for site in run.sites
        if site.epsilon is not None and site.epsilon_budget is not None
    ]
    return bar_chart("Epsilon of each site against its budget", "epsilon of budget", bars)


def privacy_utility(runs: Sequence[RunFacts]) -> Chart | None:
    """Test headline over epsilon, a line for each setting of whatever else differs; None for a single epsilon."""
    others = [key for key in varying_keys(runs) if key not in ("privacy.epsilon", "privacy.enabled", "study.seed")]
    lines: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        found = _headline(run)
        if run.private and found is not None:
            lines.setdefault(label_of(run, others), []).append((run.study.privacy.epsilon, found))
    if len({x for points in lines.values() for x, _ in points}) < 2:
        return None
    series = [Series(name or "test set", tuple(sorted(points))) for name, points in lines.items()]
    told = f"test {headline_name(runs[0].study)}"
    frame = Frame("Privacy and utility", "epsilon asked of each site", told, logarithmic=True)
    return line_chart(frame, series)


def reliability(run: RunFacts) -> Chart | None:
    """Accuracy against confidence on the test set, the empty bins left out."""
    bins = _overall(run).get("reliability") or []
    points = tuple((each["confidence"], each["accuracy"]) for each in bins if each["examples"])
    frame = Frame("Reliability on the test set", "confidence", "accuracy", y_low=0.0, y_high=1.0, diagonal=True)
    return line_chart(frame, [Series("test set", points)])


def confusion(run: RunFacts) -> Table | None:
    """The test set by true and predicted label."""
    counts = (_overall(run).get("counts") or {}).get("confusion")
    labels = run.study.task.labels
    if not counts or len(counts) != len(labels):
        return None
    rows = tuple((label, *map(str, row)) for label, row in zip(labels, counts, strict=True))
    return Table(
        "Confusion matrix of the test set", ("true label", *(f"predicted {name}" for name in labels)), rows
    )


def score_rows(run: RunFacts) -> list[tuple[str, str, dict[str, str]]]:
    """Scores of the test set: its path in ``result.json``, a name, and the figures by name of their key."""
    if run.test is None:
        return []
    parts = [("test.overall", "all", run.test["overall"])]
    worst = run.test.get("worst_domain")
    for name, score in (run.test.get("by_domain") or {}).items():
        told = f"{name} (worst)" if name == worst and len(run.test["by_domain"]) > 1 else name
        parts.append((f"test.by_domain.{name}", told, score))
    return [
        (path, name, {key: _figure(score[key]) for key in _SCORES if key in score}) for path, name, score in parts
    ]


def score_columns(run: RunFacts) -> dict[str, str]:
    """Keys and titles of the scores that the test set has."""
    return {key: title for key, title in _SCORES.items() if key in _overall(run)}


def extra_tables(run: RunFacts) -> list[Table]:
    """Robustness, attributions and the like, where ``result.json`` holds them."""
    if not run.result:
        return []
    places: list[Mapping[str, Any]] = [run.result, run.result["test"]]
    tables = [_flat_table(title, place.get(key)) for key, title in _EXTRAS.items() for place in places]
    return [table for table in tables if table]


def _flat_table(title: str, value: Any) -> Table | None:
    """A table of a list or an object of objects, or of an object; None for anything that is none of these."""
    if isinstance(value, Mapping) and value and all(isinstance(each, Mapping) for each in value.values()):
        value = [{"": name, **each} for name, each in value.items()]
    elif isinstance(value, Mapping):
        value = [{"figure": name, "value": each} for name, each in value.items() if _is_simple(each)]
    if not isinstance(value, list) or not value or not all(isinstance(each, Mapping) for each in value):
        return None
    head = tuple(dict.fromkeys(key for each in value for key, cell in each.items() if _is_simple(cell)))
    rows = tuple(tuple(_figure(each.get(key, "")) for key in head) for each in value[:_MOST_ROWS])
    return Table(title, tuple(key.replace("_", " ") for key in head), rows) if head else None


def _is_simple(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)


def _overall(run: RunFacts) -> Mapping[str, Any]:
    return run.test["overall"] if run.test else {}


def _headline(run: RunFacts) -> float | None:
    """The test's headline figure, as :attr:`Evaluation.headline` has it."""
    overall, entities = _overall(run), (run.test or {}).get("entities")
    if entities:
        return float(entities["f1"])
    if "perplexity" in overall:
        return math.exp(-overall["loss"])
    found = overall.get("accuracy")
    return None if found is None else float(found)
