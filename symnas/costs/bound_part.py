"""Costs on a part of a space: those of the whole space, on the rows that the part has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost, Rows
from symnas.costs.bound_peak import PeakCost
from symnas.costs.bound_table import TableCost
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term

if TYPE_CHECKING:
    from symnas.costs.model import CostModel
    from symnas.searchspace.parts import Part


class PartCost(BoundCost):
    """A cost that was bound to the parent, on rows of a part."""

    def __init__(self, model: CostModel, part: Part, whole: BoundCost) -> None:
        super().__init__(model, part, whole.error, whole.note)
        self._part, self._whole = part, whole

    @property
    def measured(self) -> int:
        return self._whole.measured

    @property
    def dear(self) -> bool:
        return self._whole.dear

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return self._whole(self._part.lift(rows))


def on_part(whole: BoundCost, part: Part) -> BoundCost:
    """A bound cost on a part of its space; a table again, where values of single decisions tell it."""
    model = whole.model
    if part._limit is None and isinstance(whole, TableCost):
        table = CostTable(whole.table.bias, _restricted(whole.table.terms, part))
        return TableCost(model, part, table, whole.error)
    if part._limit is None and isinstance(whole, PeakCost):
        return PeakCost(model, part, _restricted(whole.terms, part), whole.floor, whole.error)
    return PartCost(model, part, whole)


def _restricted(terms: Iterable[Term], part: Part) -> list[Term]:
    """The same terms over the decisions of a part; they are closed under conditions."""
    structure = structure_of(part)
    restricted = []
    for term in terms:
        own = structure.closed(i for i, c in enumerate(part.free) if c in term.columns)
        mask = structure.reachable(own)
        index = np.argwhere(mask)
        rows = np.full((len(index), len(part)), -1, np.int32)
        for column, values in zip(own, index.T, strict=True):
            rows[:, column] = np.where(values < structure.sizes[column], values, -1)
        # What the term needs of fixed decisions follows from those above them, which it has too.
        lifted = part.lift(rows)
        table = np.zeros(mask.shape)
        table[mask] = term.values[tuple(lifted[:, c] for c in term.columns)]
        restricted.append(Term(own, table))
    return restricted
