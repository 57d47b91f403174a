"""The data of a simulated federation: a public validation and test set, the rest divided among sites.

Coordinator and virtual sites build it from the study alone and so agree on it. Real sites bring their own
data; none of this runs there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from common.errors import BadInput
from common.examples import Example, rows_of_units
from common.partition import Partitioning, partition
from common.sources import SourceReport, columns_of, load_source
from common.splits import Fractions, Splits, capped, capped_units, split
from common.study import Study

__all__ = ["PublicSets", "VirtualSite", "VirtualSites", "public_sets", "virtual_sites"]


@dataclass(frozen=True)
class VirtualSite:
    """One simulated institution."""

    name: str
    declared_size: int
    """What its officer would declare: units for training, rounded (P3: the true size is private)."""
    examples: tuple[Example, ...] = field(repr=False)
    """Its rows for training, under unit "group" at most ``privacy.rows_per_group`` of each person."""


@dataclass(frozen=True)
class VirtualSites:
    """A simulated federation's data."""

    sites: tuple[VirtualSite, ...]
    validation: tuple[Example, ...] = field(repr=False)
    """Public; scored after each round."""
    test: tuple[Example, ...] = field(repr=False)
    """Public; read once, at the end (P21)."""
    report: SourceReport


def virtual_sites(study: Study) -> VirtualSites:
    """Load, split and divide the study's data; the same for the same study.

    Raises:
        BadInput: the source cannot be read, a part comes out empty, or a ``[[site]]`` names no site.
    """
    key = study.model_copy(update={"simulation": type(study.simulation)()}).to_json()
    return _virtual_sites(key)


@dataclass(frozen=True)
class PublicSets:
    """What the coordinator scores the global model on."""

    validation: tuple[Example, ...] = field(repr=False)
    """Public; scored after each round."""
    test: tuple[Example, ...] = field(repr=False)
    """Public; read once, at the end (P21)."""


def public_sets(study: Study) -> PublicSets:
    """The public sets of a deployment, where sites bring their own data: the study's source is not divided.

    Raises:
        BadInput: the source cannot be read, or a part comes out empty.
    """
    parts, _ = _parts(study)
    return PublicSets(capped(parts.validation, study.data.validation_rows, study.study.seed), parts.test)


def _parts(study: Study) -> tuple[Splits, SourceReport]:
    data = study.data
    institution = data.column if data.partition == "column" else ""
    dataset, report = load_source(data.source, study.task.labels, columns_of(study, institution), study.task.kind)
    parts = split(dataset, study.study.seed, Fractions(data.validation_fraction, data.test_fraction))
    for name, part in zip(parts._fields, parts, strict=True):
        if not part:
            raise BadInput(f'data.source = "{data.source}": too few rows; the {name} part is empty')
    return parts, report


@lru_cache(maxsize=2)
def _virtual_sites(study_json: str) -> VirtualSites:
    study = Study.from_json(study_json)
    data, seed = study.data, study.study.seed
    parts, report = _parts(study)
    divided = partition(parts.train, Partitioning(data.partition, data.sites, seed, data.alpha))
    if unknown := [site.name for site in study.site if site.name not in divided]:
        raise BadInput(f"site: {unknown[0]} is not one of the sites {', '.join(list(divided)[:10])}")
    sites = tuple(_virtual_site(study, name, examples) for name, examples in divided.items())
    validation = capped(parts.validation, data.validation_rows, seed)
    return VirtualSites(sites, validation, parts.test, report)


def _virtual_site(study: Study, name: str, examples: tuple[Example, ...]) -> VirtualSite:
    declared = study.site_section(name).declared_size or _rounded(len(rows_of_units(examples)))
    return VirtualSite(name, declared, capped_units(examples, study.privacy.rows_per_group, study.study.seed))


def _rounded(units: int) -> int:
    """Two leading digits of a count, rounded down; small counts stay as they are."""
    scale: int = 10 ** max(0, len(str(units)) - 2)
    return units // scale * scale
