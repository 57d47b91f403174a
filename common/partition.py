"""How a simulation divides training examples among virtual institutions.

At real sites nothing is divided: each brings its own data. Deterministic for a seed. Where rows name persons,
whole persons are dealt out; only by column may a person be at several sites, as in life, a unit at each.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy

from common.errors import BadInput
from common.examples import Example, rows_of_units

__all__ = ["PartitionKind", "Partitioning", "partition"]

PartitionKind = Literal["column", "iid", "dirichlet"]

DIRICHLET_DRAWS = 100
SITES_NAMED = 12


@dataclass(frozen=True, slots=True)
class Partitioning:
    """The rule of division, checked once."""

    kind: PartitionKind
    sites: int
    seed: int = 0
    alpha: float = 0.5
    """Dirichlet only: the smaller, the more the sites' label balances differ."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(PartitionKind):
            raise BadInput(f'data.partition = "{self.kind}": not one of {", ".join(get_args(PartitionKind))}')
        if self.sites < 1:
            raise BadInput(f"data.sites = {self.sites}: must be at least 1")
        if self.seed < 0:
            raise BadInput(f"study.seed = {self.seed}: must not be negative")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise BadInput(f"data.alpha = {self.alpha}: must be a number greater than 0; try 0.5")


def partition(examples: Sequence[Example], rule: Partitioning) -> dict[str, tuple[Example, ...]]:
    """Give each example to exactly one site; every site gets at least one.

    Returns:
        Site names in order, each with its examples in the order in which they came. By column the
        names are the values of the column, sorted, fit for folder names; else ``site-1`` and so on.

    Raises:
        BadInput: the rule and the examples do not fit.

    """
    if rule.kind == "column":
        return _by_column(examples, rule.sites)
    units = rows_of_units(examples)
    if len(units) < rule.sites:
        dealt = "persons" if len(units) < len(examples) else "examples"
        raise BadInput(f"data.sites = {rule.sites}: more than there are {dealt}; lower it or give more data")
    if rule.kind == "iid":
        owners = _iid_owners([_rank(examples, unit, rule.seed) for unit in units], rule)
    else:
        owners = _dirichlet_owners([_label(examples, unit) for unit in units], rule)
    width = len(str(rule.sites))
    divided: list[list[int]] = [[] for _ in range(rule.sites)]
    for unit, owner in zip(units, owners, strict=True):
        divided[owner].extend(unit)
    return {
        f"site-{number:0{width}d}": tuple(examples[row] for row in sorted(held))
        for number, held in enumerate(divided, start=1)
    }


def _by_column(examples: Sequence[Example], sites: int) -> dict[str, tuple[Example, ...]]:
    """One site for each value of the partition column."""
    divided: dict[str, list[Example]] = {}
    for example in examples:
        divided.setdefault(example.domain, []).append(example)
    if "" in divided:
        raise BadInput(
            'data.partition = "column": the rows have no partition column; '
            "set data.column to its name, or partition by iid or dirichlet"
        )
    if len(divided) != sites:
        raise BadInput(
            f"data.sites = {sites}: the partition column has {len(divided)} values{_listed(divided)}; "
            f"set data.sites = {len(divided)}, or partition by iid or dirichlet"
        )
    names = {value: _site_name(value) for value in divided}
    if len({name.casefold() for name in names.values()}) != len(names):
        raise BadInput(
            "data.column: two of its values give the same site name; "
            "let them differ in letters or digits, not only in case, blanks or signs"
        )
    return {names[value]: tuple(divided[value]) for value in sorted(divided)}


def _site_name(value: str) -> str:
    """Name of a site after its value of the partition column, safe as a folder's on every system."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", value).strip("-")[:64]
    return name or "site-" + hashlib.sha256(value.encode()).hexdigest()[:8]


def _listed(values: Sequence[str] | dict[str, list[Example]]) -> str:
    """List the values for a message, if they are few and plainly names."""
    if len(values) <= SITES_NAMED and all(_site_name(value) == value for value in values):
        return f" ({', '.join(sorted(values))})"
    return ""


def _rank(examples: Sequence[Example], unit: Sequence[int], seed: int) -> bytes:
    """Place of a unit in the order of dealing; the row number tells equal texts apart."""
    first = examples[unit[0]]
    name = first.group or f"{unit[0]}\n{first.text}"
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def _label(examples: Sequence[Example], unit: Sequence[int]) -> int:
    """Label of a unit: that of most of its rows, the smaller of two."""
    counts = Counter(examples[row].label for row in unit)
    return min(counts, key=lambda label: (-counts[label], label))


def _iid_owners(ranks: Sequence[bytes], rule: Partitioning) -> list[int]:
    """Site of each unit: dealt out in the order of ranks, so sizes differ by one unit at most."""
    owners = [0] * len(ranks)
    for dealt, unit in enumerate(sorted(range(len(ranks)), key=ranks.__getitem__)):
        owners[unit] = dealt % rule.sites
    return owners


def _dirichlet_owners(unit_labels: Sequence[int], rule: Partitioning) -> list[int]:
    """Site of each unit: every label's units divided in shares drawn from a Dirichlet law.

    Draws again while a site stays empty, up to a bound.
    """
    generator = numpy.random.default_rng(rule.seed)
    labels = numpy.array(unit_labels)
    for _ in range(DIRICHLET_DRAWS):
        owners = numpy.zeros(len(labels), dtype=numpy.int64)
        for label in numpy.unique(labels):
            units = generator.permutation(numpy.flatnonzero(labels == label))
            shares = generator.dirichlet(numpy.full(rule.sites, rule.alpha))
            ends = numpy.rint(numpy.cumsum(shares)[:-1] * len(units)).astype(numpy.int64)
            for owner, held in enumerate(numpy.split(units, ends)):
                owners[held] = owner
        if len(numpy.unique(owners)) == rule.sites:
            return [int(owner) for owner in owners]
    raise BadInput(
        f"data.alpha = {rule.alpha}: so uneven that one of {rule.sites} sites always stays empty; "
        "raise data.alpha or lower data.sites"
    )
