"""Copies a run's figures to a tracker that somebody already uses; each needs an extra of its own.

What is copied is what the report shows: scores on public sets, epsilons, bytes, seconds. Where the coordinator
added the noise (P19), figures by site stay out.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import BadInput
from deploy.report.comparison import flat_settings
from deploy.report.facts import RunFacts
from server.records import RoundRecord

__all__ = ["figures_of_round", "tracker"]

Log = Callable[[RunFacts, Path], None]


def tracker(name: str) -> Log:
    """What logs a run to the tracker called ``name``.

    Raises:
        BadInput: an unknown name, or the tracker is not installed.
    """
    if name not in _TRACKERS:
        raise BadInput(f"--track {name}: must be one of {', '.join(_TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise BadInput(f"--track {name}: is not installed; pip install 'hanse[{name}]'")
    return _TRACKERS[name]


def figures_of_round(run: RunFacts, record: RoundRecord) -> dict[str, float]:
    """A round's figures by name."""
    found: dict[str, float] = {"bytes_sent": record.bytes_sent, "bytes_received": record.bytes_received}
    found |= {f"seconds_{part}": seconds for part, seconds in record.seconds.items()}
    if record.evaluation:
        overall = record.evaluation.overall
        found |= {"validation_accuracy": overall.accuracy, "validation_loss": overall.loss}
    spent = {entry.site: entry.epsilon for entry in record.sites if entry.epsilon is not None}
    if spent:
        found["epsilon"] = max(spent.values())
    if not run.central:
        found |= {f"epsilon_{site}": epsilon for site, epsilon in spent.items()}
    return found


def _final(run: RunFacts) -> Iterator[tuple[str, float]]:
    overall: Mapping[str, Any] = run.test["overall"] if run.test else {}
    for key, value in overall.items():
        if isinstance(value, int | float):
            yield f"test_{key}", float(value)


def _to_tensorboard(run: RunFacts, directory: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(directory / "tensorboard"))
    writer.add_text("study", json.dumps(flat_settings(run)))
    for record in run.rounds:
        for name, value in figures_of_round(run, record).items():
            writer.add_scalar(name, value, record.round)
    for name, value in _final(run):
        writer.add_scalar(name, value, len(run.rounds))
    writer.close()


def _to_mlflow(run: RunFacts, directory: Path) -> None:
    mlflow: Any = importlib.import_module("mlflow")
    mlflow.set_experiment(run.study.study.name)
    with mlflow.start_run(run_name=run.name):
        mlflow.log_params({key: str(value)[:500] for key, value in flat_settings(run).items()})
        mlflow.set_tags({"run_directory": directory.name, "private": str(run.private).lower()})
        for record in run.rounds:
            named = {_mlflow_name(name): value for name, value in figures_of_round(run, record).items()}
            mlflow.log_metrics(named, step=record.round)
        mlflow.log_metrics(dict(_final(run)))


def _to_wandb(run: RunFacts, directory: Path) -> None:
    """Offline always: what leaves this machine is for the user to send, by ``wandb sync``."""
    wandb: Any = importlib.import_module("wandb")
    settings = wandb.Settings(
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        console="off",
        silent=True,
    )
    log = wandb.init(
        project=run.study.study.name,
        name=run.name,
        dir=str(directory),
        mode="offline",
        config={**flat_settings(run), "private": run.private},
        settings=settings,
    )
    for record in run.rounds:
        log.log(figures_of_round(run, record), step=record.round)
    log.summary.update(dict(_final(run)))
    log.finish()
    wandb.teardown()  # its own process writes the file; it has ended after this


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in name)


_TRACKERS: dict[str, Log] = {"mlflow": _to_mlflow, "tensorboard": _to_tensorboard, "wandb": _to_wandb}
