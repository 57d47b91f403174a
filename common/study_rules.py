"""Checks across a study's sections: combinations that cannot be, and values that this version cannot carry out.

They bind wherever a study enters: read from a file, or received by a site.
"""

from __future__ import annotations

from collections.abc import Iterator

from common.errors import BadInput, NotYet
from common.study import PrivacySection, Study

__all__ = ["check_study"]


def check_study(study: Study, where: str) -> None:
    """Raise for a study whose keys are each legal but that cannot run; ``where`` names it in the error.

    Raises:
        BadInput: keys that contradict each other.
        NotYet: a legal value that this version of Hanse cannot carry out.
    """
    impossible = list(_impossible(study))
    if impossible:
        raise BadInput("\n".join(f"{where}: {fault}" for fault in impossible))
    not_yet = list(_not_yet(study))
    if not_yet:
        raise NotYet("\n".join(f"{where}: {fault}" for fault in not_yet))


def _impossible(study: Study) -> Iterator[str]:
    federation, data, model = study.federation, study.data, study.model
    if federation.min_sites > data.sites:
        yield f"federation.min_sites = {federation.min_sites}: more than data.sites = {data.sites}"
    if federation.rounds == 0 and (model.warm_start_steps == 0 or model.trainable == "head"):
        yield "federation.rounds = 0: nothing would train; set rounds to 1 or more"
    if 0 < model.warm_start_steps < model.warm_start_rounds:
        yield (
            f"model.warm_start_rounds = {model.warm_start_rounds}: "
            f"more than warm_start_steps = {model.warm_start_steps}"
        )
    if data.validation_fraction + data.test_fraction >= 1:
        yield (
            f"data.test_fraction = {data.test_fraction}: with validation_fraction = "
            f"{data.validation_fraction} nothing is left to train on"
        )
    if data.partition == "column" and not data.column:
        yield 'data.column = "": partition = "column" needs the column that names the institution'
    if federation.proximal_mu and federation.strategy != "fedprox":
        yield (
            f'federation.proximal_mu = {federation.proximal_mu}: only strategy = "fedprox" uses it, '
            f'not "{federation.strategy}"'
        )
    needed = {"krum": 2 * federation.malicious_sites + 3, "trimmed-mean": 2 * federation.malicious_sites + 1}
    if data.sites < needed.get(federation.strategy, 1):
        yield (
            f"federation.malicious_sites = {federation.malicious_sites}: {federation.strategy} then needs "
            f"{needed[federation.strategy]} sites or more, not {data.sites}"
        )
    if federation.malicious_sites and federation.strategy not in needed:
        yield (
            f"federation.malicious_sites = {federation.malicious_sites}: only krum and trimmed-mean use it, "
            f'not "{federation.strategy}"'
        )
    yield from _impossible_units(study)
    yield from _impossible_under_central_privacy(study)
    names = [site.name for site in study.site]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"site: {name} appears more than once; keep one [[site]] per name"


def _impossible_units(study: Study) -> Iterator[str]:
    privacy, physical = study.privacy, study.training.physical_batch_size
    if privacy.unit == "group":
        if not privacy.group_column:
            yield 'privacy.group_column = "": unit = "group" needs the column that names each row\'s person'
        if isinstance(physical, int) and privacy.rows_per_group > physical:
            yield (
                f"privacy.rows_per_group = {privacy.rows_per_group}: more than training.physical_batch_size = "
                f"{physical}, and the rows of a person stay together"
            )
        return
    if privacy.group_column:
        yield (
            f'privacy.group_column = "{privacy.group_column}": only unit = "group" uses it, not "{privacy.unit}"'
        )
    if privacy.rows_per_group != PrivacySection().rows_per_group:
        yield (
            f'privacy.rows_per_group = {privacy.rows_per_group}: only unit = "group" uses it, not "{privacy.unit}"'
        )


def _impossible_under_central_privacy(study: Study) -> Iterator[str]:
    if not study.privacy.noised_centrally:
        return
    if study.federation.strategy in {"median", "trimmed-mean", "krum"}:
        yield (
            f'federation.strategy = "{study.federation.strategy}": under unit = "institution" the coordinator '
            "noises a mean; use fedavg, fedprox, fedavgm, fedadam or fedyogi"
        )
    for site in study.site:
        if site.epsilon is not None:
            yield (
                f'site "{site.name}": epsilon = {site.epsilon:g}: under unit = "institution" one noise serves '
                "all; set privacy.epsilon"
            )


def _not_yet(study: Study) -> Iterator[str]:
    if study.task.kind != "sequence-classification":
        yield f'task.kind = "{study.task.kind}": not yet; use "sequence-classification"'
    if study.federation.selection != "all":
        yield f'federation.selection = "{study.federation.selection}": not yet; use "all"'
