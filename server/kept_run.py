"""A run as its contributions are computed from it: the record alone, nothing is asked of a site."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.base_model import resolve_base
from common.errors import BadInput
from common.study import Study
from common.study_file import read_study
from common.virtual_sites import public_sets
from server.kept_updates import kept_rounds
from server.run_directory import RunDirectory

__all__ = ["KeptRun", "open_kept_run", "validation_digest"]

_NO_SUM = {"median", "trimmed-mean", "krum"}


@dataclass(frozen=True)
class KeptRun:
    """A run that kept its updates."""

    directory: RunDirectory
    study: Study
    digest: str
    """The study's."""
    run: str
    sites: tuple[str, ...]
    """All that took part, ascending."""
    declared_sizes: Mapping[str, int]
    """By site; empty while the run has no result."""
    drawn: float
    """Examples that a site is expected to draw in a round of the study proper."""
    present: Mapping[int, tuple[str, ...]]
    """By round that counts, the sites whose updates it had, ascending."""


def open_kept_run(path: Path) -> KeptRun:
    """Open a run directory for contributions.

    Raises:
        BadInput: it is no run directory, kept no updates, or its rule is no sum over sites.
    """
    if not (path / "study.toml").is_file():
        raise BadInput(f"{path}: is not a run directory (it holds no study.toml)")
    directory, study = RunDirectory(path), read_study(path / "study.toml")
    if study.federation.strategy in _NO_SUM:
        raise BadInput(
            f'{path}: federation.strategy = "{study.federation.strategy}": is no sum over sites, so no '
            "coalition's model follows from its updates; value a run with fedavg, fedadam or another mean"
        )
    kept = set(kept_rounds(directory.updates))
    records = directory.rounds()
    present = {r.round: tuple(sorted(s.site for s in r.sites if s.replied)) for r in records}
    counting = {number: sites for number, sites in present.items() if sites}
    if not counting or not counting.keys() <= kept:
        raise BadInput(
            f"{path}: the updates of its rounds were not kept; run the study with federation.keep_updates = true"
        )
    result = (
        json.loads(directory.result.read_text(encoding="utf-8")) if directory.result.is_file() else {"sites": []}
    )
    sizes = {str(site["name"]): int(site["declared_size"]) for site in result["sites"]}
    names = {site.site for record in records for site in record.sites} | sizes.keys()
    return KeptRun(
        directory=directory,
        study=study,
        digest=study.digest(resolve_base(study.model.base).digest),
        run=directory.run_identifier(),
        sites=tuple(sorted(names)),
        declared_sizes=sizes,
        drawn=float(study.privacy.batch_size * study.federation.steps_per_round),
        present=counting,
    )


def validation_digest(study: Study) -> str:
    """SHA-256 (hex) of the public validation set's texts and labels: values of another set are not mixed in."""
    hashed = hashlib.sha256()
    for example in public_sets(study).validation:
        hashed.update(json.dumps([example.text, example.label, list(example.tags)]).encode())
    return hashed.hexdigest()
