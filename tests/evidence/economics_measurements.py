"""The measurements behind what is said of contributions, selection and weights: real runs on SST-2.

Heads on cached features of the embedded model, so that a run takes a minute. Needs ``../shared/data/sst2``.
"""

from __future__ import annotations

import csv
import json
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["MEASUREMENTS", "SIX_SITES", "bandit_and_uniform", "ranking"]

_SST2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "sst2"
_SEEDS = range(5)
_TARGET = 0.8
"""Validation accuracy that selection is to reach."""

Parties = Mapping[str, tuple[int, float]]
"""Site to its rows and the share of them whose label is turned."""

SIX_SITES: Parties = {
    "good-1": (3000, 0.0),
    "good-2": (3000, 0.0),
    "flipped-1": (3000, 0.5),
    "flipped-2": (3000, 0.5),
    "rider": (3000, 0.0),
    "small": (300, 0.0),
}
_EIGHT_SITES: Parties = {
    **{f"good-{i}": (2000, 0.0) for i in range(4)},
    **{f"flipped-{i}": (2000, 0.5) for i in range(3)},
    "rider": (2000, 0.0),
}
_STUDY = """
[study]
name = "economics"
seed = {seed}
[task]
labels = ["negative", "positive"]
max_length = 48
[model]
base = "minilm-l6"
trainable = "head"
warm_start_steps = 0
[data]
source = "{data}"
partition = "column"
column = "site"
sites = {sites}
validation_rows = {validation}
[privacy]
epsilon = 8.0
max_grad_norm = 2.0
batch_size = 128
[federation]
rounds = 8
steps_per_round = 4
min_sites = 1
keep_updates = true
[training]
learning_rate = 2.0
device = "cpu"
"""


def _rows(name: str) -> list[tuple[str, str]]:
    with (_SST2 / name).open(newline="", encoding="utf-8") as stream:
        return [(row["text"], row["label"]) for row in csv.DictReader(stream)]


def _write(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label", "site"), *rows])


def _data(folder: Path, parties: Parties, seed: int, validation: int = 2000) -> None:
    """Train, validation and test files; the last two are clean."""
    chooser = random.Random(seed)
    turned = {"negative": "positive", "positive": "negative"}
    rows = _rows("train.csv")
    chooser.shuffle(rows)
    taken = iter(rows)
    _write(folder / "validation.csv", [(*next(taken), "public") for _ in range(validation)])
    _write(folder / "test.csv", [(*row, "public") for row in _rows("test.csv")])
    train = []
    for site, (count, flipped) in parties.items():
        for _ in range(count):
            text, label = next(taken)
            train.append((text, turned[label] if chooser.random() < flipped else label, site))
    _write(folder / "train.csv", train)


@contextmanager
def _run(parties: Parties, seed: int, *overrides: str, filters: bool = False, more: str = "") -> Iterator[Path]:
    """A finished run of the parties, in a directory that lasts as long as the context."""
    from common.environment import SITES_VARIABLE, STATE_VARIABLE
    from common.study_file import parse_study, write_study
    from deploy.local_engine import LocalGrid
    from server.run_directory import RunDirectory
    from server.study_run import run_study

    with tempfile.TemporaryDirectory() as name:
        data, run, before = Path(name) / "data", Path(name) / "run", dict(os.environ)
        data.mkdir()
        run.mkdir()
        _data(data, parties, seed)
        text = _STUDY.format(seed=seed, data=data, sites=len(parties), validation=2000) + more
        study = parse_study(text, where="economics", overrides=overrides)
        write_study(study, run / "study.toml")
        os.environ[STATE_VARIABLE] = f"{name}/state"
        if filters:
            os.environ[SITES_VARIABLE] = str(_filter_policies(Path(name) / "sites", study, parties))
        try:
            with LocalGrid(len(parties), 2, 1, client_app="tests.evidence.riding_sites") as grid:
                run_study(study, grid, RunDirectory(run))
            yield run
        finally:
            os.environ.clear()
            os.environ.update(before)


def _filter_policies(folder: Path, study: Any, parties: Parties) -> Path:
    """A policy a site whose budget is a filter, at the order that suits the study best."""
    import tomli_w

    from common.privacy.accounting import best_filter_order
    from common.study_mechanism import calibrated_noise_multiplier, study_mechanism

    for site, (size, _) in parties.items():
        noise = calibrated_noise_multiplier(study, site, size)
        order = best_filter_order(study_mechanism(study, size, noise), study.privacy.epsilon, study.delta_of(size))
        policy = {
            "site": {"name": site},
            "dataset": {"name": "sst2", "unit": "example", "one_row_per_person": True, "declared_size": size},
            "budget": {"epsilon": study.privacy.epsilon, "kind": "filter", "order": order},
            "allow": {"approval": "none", "trainable": ["head"], "min_noise_multiplier": 0.1, "min_sites": 1},
            "disclose": {"labels": list(study.task.labels)},
        }
        own = folder / site
        own.mkdir(mode=0o700, parents=True)
        (own / "policy.toml").write_text(tomli_w.dumps(policy), encoding="utf-8")
    return folder


def _valued(run: Path, figure: str = "loss", whole_run: bool = False) -> dict[str, Any]:
    from server.economics.contribution import Question, contributions
    from server.economics.contribution_record import contribution_record
    from server.economics.signs import Draws, signals, sketch
    from server.kept_run import open_kept_run
    from server.kept_updates import read_kept_updates

    opened = open_kept_run(run)
    found = contributions(opened, Question(figure, whole_run=whole_run))
    kept = [sketch(read_kept_updates(opened.directory.updates, n, opened.study).kept) for n in opened.present]
    draws = None if opened.study.privacy.enabled else Draws(opened.drawn, opened.declared_sizes)
    return contribution_record(opened, found, *signals(kept, found.sites, draws))


def ranking(seed: int, *overrides: str) -> dict[str, Any]:
    """Contributions of the six sites in one run, and whether good > small > rider > flipped."""
    with _run(SIX_SITES, seed, *overrides) as run:
        record = _valued(run)
        test = json.loads((run / "result.json").read_text(encoding="utf-8"))["test"]["overall"]["accuracy"]
    values = {site["site"]: site["shapley"] for site in record["sites"]}
    least_good = min(v for s, v in values.items() if s.startswith("good"))
    best_flipped = max(v for s, v in values.items() if s.startswith("flipped"))
    return {
        "seed": seed,
        "right": least_good > values["small"] > values["rider"] > best_flipped,
        "good_first": least_good > max(v for s, v in values.items() if not s.startswith("good")),
        "values": {site: round(value, 6) for site, value in values.items()},
        "signs": {
            site["site"]: [sign["sign"] for sign in site["signs"]] for site in record["sites"] if site["signs"]
        },
        "copies_would_show": record["copies_would_show"],
        "test_accuracy": round(test, 4),
    }


def shapley_ranking() -> dict[str, Any]:
    """Six sites of SST-2 (two with half of the labels turned, a rider, a small one, two good) in five seeds."""
    plain = [ranking(seed, "privacy.enabled=false") for seed in _SEEDS]
    private = [ranking(seed) for seed in _SEEDS]
    return {
        "order": "good-1, good-2 > small > rider > flipped-1, flipped-2",
        "right_without_privacy": sum(each["right"] for each in plain),
        "right_at_epsilon_8": sum(each["right"] for each in private),
        "good_first_without_privacy": sum(each["good_first"] for each in plain),
        "good_first_at_epsilon_8": sum(each["good_first"] for each in private),
        "of": len(plain),
        "without_privacy": plain,
        "at_epsilon_8": private,
    }


def estimate_of_twelve() -> dict[str, Any]:
    """A run of 12 sites as one game: all 4,096 coalitions, and estimates from at most 1,023 of them, 5 seeds."""
    from server.economics.coalition_score import CoalitionUtility
    from server.economics.games import Game
    from server.economics.sampling import Sampling, estimate_shapley
    from server.economics.shapley import shapley
    from server.kept_run import open_kept_run

    parties: Parties = {f"site-{i:02d}": (400 + 150 * i, 0.5 if i in {3, 8} else 0.0) for i in range(12)}
    with _run(parties, 0, "privacy.enabled=false", "federation.rounds=4") as run:
        opened = open_kept_run(run)
        game = Game(opened.sites, CoalitionUtility(run, tuple(opened.present), "loss"), store=run / "all.json")
        exact = shapley(game, most_sites=12)
        seeds = []
        for seed in _SEEDS:
            known = Game(game.sites, game)  # asks the values of the other, and counts what it asks
            estimate = estimate_shapley(known, Sampling(seed, within_round=0.0, most_evaluations=1023))
            inside = [abs(estimate.values[s] - exact[s]) <= estimate.half_width(s) for s in exact]
            errors = {s: estimate.values[s] - exact[s] for s in exact}
            seeds.append(
                {
                    "seed": seed,
                    "evaluations": estimate.evaluations,
                    "inside": sum(inside),
                    "largest_error": max(map(abs, errors.values())),
                    "mean_half_width": statistics.fmean(estimate.half_width(s) for s in exact),
                }
            )
    return {
        "sites": len(exact),
        "coalitions": game.evaluations,
        "all_inside_in_seeds": sum(each["inside"] == len(exact) for each in seeds),
        "exact": {site: round(value, 6) for site, value in exact.items()},
        "seeds": seeds,
    }


def bandit_and_uniform(seed: int, rounds: int = 24, target: float = _TARGET) -> dict[str, Any]:
    """Two of eight sites a round, by lot and by the bandit: rounds and epsilon until a validation accuracy."""
    found: dict[str, Any] = {"seed": seed}
    for selection in ("uniform", "bandit"):
        overrides = (
            f"federation.selection={selection}",
            "federation.sites_per_round=2",
            f"federation.rounds={rounds}",
            "federation.steps_per_round=2",
        )
        with _run(_EIGHT_SITES, seed, *overrides, filters=True) as run:
            found[selection] = _path(run, target)
    found["bandit_reaches_it_first"] = _sooner(found["bandit"], found["uniform"])
    return found


def _path(run: Path, target: float) -> dict[str, Any]:
    from server.run_directory import RunDirectory

    records = RunDirectory(run).rounds()
    scores = [record.evaluation.overall.accuracy for record in records if record.evaluation]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {
        "rounds_to_target": next((i for i, score in enumerate(scores, start=1) if score >= target), None),
        "best_validation_accuracy": round(max(scores), 4),
        "mean_validation_accuracy": round(statistics.fmean(scores), 4),
        "test_accuracy": round(result["test"]["overall"]["accuracy"], 4),
        "rounds_asked": {site["name"]: site["rounds_asked"] for site in result["sites"]},
        "epsilon": {site["name"]: round(site["epsilon"], 3) for site in result["sites"]},
    }


def _sooner(one: dict[str, Any], other: dict[str, Any]) -> bool:
    mine, theirs = one["rounds_to_target"], other["rounds_to_target"]
    return mine is not None and (theirs is None or mine < theirs)


def bandit_selection() -> dict[str, Any]:
    """Bandit against uniform selection in five seeds."""
    seeds = [bandit_and_uniform(seed) for seed in _SEEDS]
    return {
        "target": _TARGET,
        "bandit_reaches_it_first": sum(each["bandit_reaches_it_first"] for each in seeds),
        "bandit_tests_better": sum(e["bandit"]["test_accuracy"] > e["uniform"]["test_accuracy"] for e in seeds),
        "of": len(seeds),
        "seeds": seeds,
    }


def inverse_variance() -> dict[str, Any]:
    """Four sites at epsilon 8, 8, 0.5 and 0.5: weights by size and by inverse variance, three seeds, private."""
    parties: Parties = {f"site-{i}": (2500, 0.0) for i in range(4)}
    own = "".join(f'[[site]]\nname = "site-{i}"\nepsilon = 0.5\n' for i in (2, 3))
    found: dict[str, Any] = {}
    for weighting in ("size", "inverse-variance"):
        runs = []
        for seed in range(3):
            with _run(parties, seed, f"federation.weighting={weighting}", more=own) as run:
                result = json.loads((run / "result.json").read_text(encoding="utf-8"))
                weights = {site["name"]: site["weight"] for site in result["sites"]}
                runs.append({"test_accuracy": result["test"]["overall"]["accuracy"], "weights": weights})
        found[weighting] = {"mean_test_accuracy": statistics.fmean(r["test_accuracy"] for r in runs), "runs": runs}
    return found


def robust_rules() -> dict[str, Any]:
    """Test accuracy of the six sites' federation under each rule, without privacy, three seeds."""
    found: dict[str, Any] = {}
    for rule in ("fedavg", "median", "trimmed-mean", "krum"):
        accuracies = []
        for seed in range(3):
            overrides = ["privacy.enabled=false", f"federation.strategy={rule}", "federation.keep_updates=false"]
            if rule in {"trimmed-mean", "krum"}:
                overrides.append("federation.malicious_sites=1")
            with _run(SIX_SITES, seed, *overrides) as run:
                result = json.loads((run / "result.json").read_text(encoding="utf-8"))
                accuracies.append(result["test"]["overall"]["accuracy"])
        found[rule] = {"mean_test_accuracy": statistics.fmean(accuracies), "test_accuracy": accuracies}
    return found


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "shapley-ranking": shapley_ranking,
    "estimate-of-twelve": estimate_of_twelve,
    "bandit-selection": bandit_selection,
    "inverse-variance": inverse_variance,
    "robust-rules": robust_rules,
}
"""Name in docs/evidence/ to what measures it."""
