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
    yield from _impossible_tasks(study)
    yield from _impossible_selection(study)
    yield from _impossible_units(study)
    yield from _impossible_under_central_privacy(study)
    names = [site.name for site in study.site]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"site: {name} appears more than once; keep one [[site]] per name"


def _impossible_tasks(study: Study) -> Iterator[str]:
    kind, labels, model = study.task.kind, study.task.labels, study.model
    if kind == "token-classification":
        inside = [label for label in labels if label.startswith("I-")]
        if "O" not in labels or any(label != "O" and label[:2] not in {"B-", "I-"} for label in labels):
            yield f'task.labels = {labels}: must be "O" and tags such as "B-PER" and "I-PER" (BIO)'
        elif lonely := [label for label in inside if f"B-{label[2:]}" not in labels]:
            yield f'task.labels = {labels}: "{lonely[0]}" continues what no label begins; add "B-{lonely[0][2:]}"'
    if kind == "masked-language-modeling":
        if model.warm_start_steps:
            yield (
                f"model.warm_start_steps = {model.warm_start_steps}: masked-language-modeling has no head to "
                "train first; set it to 0"
            )
        if model.trainable == "head":
            yield 'model.trainable = "head": masked-language-modeling adapts the encoder; use "lora" or "full"'
    if kind != "sequence-classification" and study.data.partition == "dirichlet":
        yield f'data.partition = "dirichlet": divides by the label of a text, which {kind} has not; use "iid"'


def _impossible_selection(study: Study) -> Iterator[str]:
    federation, asked = study.federation, study.federation.sites_per_round
    robust = federation.strategy in {"median", "trimmed-mean", "krum"}
    if federation.weighting == "inverse-variance" and robust:
        yield f'federation.weighting = "inverse-variance": {federation.strategy} weighs sites alike; use "equal"'
    if federation.selection == "all":
        if asked:
            yield f'federation.sites_per_round = {asked}: only selection = "uniform" and "bandit" use it'
        return
    if not max(1, federation.min_sites) <= asked <= study.data.sites:
        yield (
            f'federation.sites_per_round = {asked}: selection = "{federation.selection}" needs it, at least '
            f"min_sites = {federation.min_sites} and at most data.sites = {study.data.sites}"
        )
    if robust:
        yield (
            f'federation.selection = "{federation.selection}": {federation.strategy} compares all sites; '
            "use fedavg, fedprox, fedavgm, fedadam or fedyogi"
        )
    if study.privacy.noised_centrally:
        yield (
            f'federation.selection = "{federation.selection}": under unit = "institution" every institution takes '
            'part in every round; use "all"'
        )
    if federation.selection == "bandit" and not federation.keep_updates:
        yield 'federation.selection = "bandit": learns from the rounds\' updates; set keep_updates = true'


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
    if study.task.kind == "token-classification" and study.data.source.startswith("hub:"):
        yield (
            f'data.source = "{study.data.source}": not yet under token-classification; '
            "use a CoNLL, JSONL or Parquet file"
        )
