"""Rows of a physical batch that make up units: a person with all rows, or every row by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from common.errors import HanseError

__all__ = ["Slots", "Units"]


@dataclass(frozen=True)
class Units:
    """Which rows of a physical batch make up a unit, as the persons of unit "group"."""

    index: torch.Tensor
    """Unit of each row, numbered from 0 without gaps, int64 ``(rows,)``."""
    weights: torch.Tensor
    """Factor of each row within its unit's gradient, ``(rows,)``."""


@dataclass(frozen=True)
class Slots:
    """Where each row's tokens go among its unit's tokens."""

    rows: int
    """Of the physical batch."""
    units: int
    """How many they make up."""
    width: int
    """Most rows of a unit."""
    index: torch.Tensor | None
    """Unit times width plus place within the unit, for each row; None: every row is a unit."""
    weights: torch.Tensor | None
    """Factor of each row; None where every row is a unit."""

    @classmethod
    def of(cls, units: Units | None, rows: int, device: torch.device) -> Slots:
        """The slots of ``rows`` rows; raises ``HanseError`` where the units are not those of as many."""
        if units is None:
            return cls(rows, rows, 1, None, None)
        if len(units.index) != rows or len(units.weights) != rows:
            raise HanseError(f"losses of {rows} rows came for the units of {len(units.index)}")
        count = int(units.index.max()) + 1 if rows else 0
        sizes = torch.bincount(units.index, minlength=count)
        width = int(sizes.max()) if rows else 1
        order = torch.argsort(units.index, stable=True)
        starts = torch.cumsum(sizes, 0) - sizes
        places = torch.empty_like(units.index)
        places[order] = torch.arange(rows, device=device) - starts[units.index[order]]
        return cls(rows, count, width, units.index * width + places, units.weights.float())

    def spread(self, values: torch.Tensor, weighted: bool) -> torch.Tensor:
        """``(rows, tokens, n)`` to ``(units, width * tokens, n)``; rows that a unit lacks are zero."""
        if self.index is None or self.weights is None:
            return values
        if weighted:
            values = values * self.weights.view(-1, 1, 1)
        spread = values.new_zeros(self.units * self.width, *values.shape[1:])
        spread[self.index] = values
        return spread.view(self.units, self.width * values.shape[1], *values.shape[2:])
