"""`TableCost`: a cost that is a sum of small tables; everything about it is exact."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost, Bounds, Range, Rows
from symnas.costs.comparison import Limits
from symnas.costs.decompose import simplified
from symnas.costs.limits import Limit
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable

if TYPE_CHECKING:
    from symnas.costs.accuracy import Accuracy
    from symnas.costs.independent import Independent, Probabilities
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Seed, Space


class TableCost(BoundCost):
    """The cost of rows by a `CostTable`.

    Args:
        model, space: what is bound.
        table: over the space's columns.
        error: on held-out architectures, if it was checked.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    >>> macs = cm.Macs().bind(space)
    >>> macs.table.bias, macs.table.terms[0].values.tolist()
    (32.0, [0.0, 32.0])
    >>> print(macs.error)
    0 wrong of 2 held-out architectures
    """

    table: CostTable  # type: ignore[misc]

    def __init__(
        self,
        model: CostModel,
        space: Space,
        table: CostTable,
        error: Accuracy | None = None,
    ) -> None:
        super().__init__(model, space, error)
        self.table = simplified(structure_of(space), table.terms, table.bias)

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return self.table(rows)

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The mean cost when each decision is drawn independently: a scalar, in float64.

        Exact, and so is the gradient: the tables are multilinear in the probabilities.

        Args:
            probabilities: decision id to `(candidates,)`; decisions left out are uniform. A
                conditional decision counts only where it is active.

        Raises:
            ValueError: an id or a shape does not fit the space, or the cost depends on picks of a
                `manyof`, which are not independent.
        """
        from symnas.costs.independent import Independent

        independent = Independent(self.space, probabilities)
        independent.refuse_rules(set(self.table.columns), f"The expected {self.name}")
        return self._multilinear(independent)

    def _multilinear(self, independent: Independent) -> torch.Tensor:
        columns, factors, values = self._entries
        # One behind the last probability stands 1: for inactive decisions and shorter terms.
        vector = torch.cat([*(independent.tensor(c) for c in columns), torch.ones(1).double()])
        product = values
        for index in factors:
            product = product * vector[index]
        return product.sum() + self.table.bias

    @cached_property
    def _entries(self) -> tuple[list[int], list[torch.Tensor], torch.Tensor]:
        """All entries that are not 0: the probabilities to multiply each with, and the entries."""
        structure = structure_of(self.space)
        columns = list(self.table.columns)
        sizes = [structure.sizes[c] for c in columns]
        starts = dict(zip(columns, np.cumsum([0, *sizes])[:-1].tolist(), strict=True))
        one = sum(sizes)
        width = self.table.largest
        parts, values = [np.empty((width, 0), np.int64)], [np.empty(0)]
        for term in self.table.terms:
            positions = np.nonzero(term.values)
            part = np.full((width, len(positions[0])), one, np.int64)
            for i, (column, index) in enumerate(zip(term.columns, positions, strict=True)):
                part[i] = np.where(index < structure.sizes[column], index + starts[column], one)
            parts.append(part)
            values.append(term.values[positions])
        stacked = np.concatenate(parts, axis=1)
        return columns, list(torch.from_numpy(stacked)), torch.from_numpy(np.concatenate(values))

    def range(self, seed: Seed = 0, evaluations: int | None = None) -> Range:
        """The smallest and the largest cost of the space, exactly, by dynamic programming.

        `evaluations` is ignored. Where the space has a `valid`, or where the tables couple too many
        decisions, the range is looked for as for other costs, on the tables.
        """
        from symnas.costs.scopes import TooCoupled
        from symnas.costs.trellis import Trellis

        if self.space.valid is not None:
            return super().range(seed, evaluations)
        try:
            trellis = Trellis.of(structure_of(self.space), [self.table])
        except TooCoupled:
            return super().range(seed, evaluations)
        ends = []
        for sign in (1.0, -1.0):
            _, values = trellis.cheapest([sign])
            ends.append(self._completed(values, seed))
        low, high = self(np.stack(ends)).tolist()
        return Range(low, high, ends[0], ends[1], 0, True)

    def _completed(self, values: dict[int, int], seed: Seed) -> Rows:
        """A row with these values, the others drawn."""
        from symnas.costs.independent import Independent

        row = np.full((1, len(self.space)), -2, np.int32)
        for column, value in values.items():
            row[0, column] = value
        completed: Rows = Independent(self.space).sample(1, np.random.default_rng(seed), row)[0]
        return completed

    def bounds(self, limits: Limits) -> Bounds:
        if limits.upper is not None:
            most = limits.upper if limits.strict else limits.closest
            return Bounds((Limit(self.table, most, limits.strict),))
        assert limits.lower is not None
        least = limits.lower if limits.strict else limits.closest
        return Bounds((Limit(-self.table, -least, limits.strict),))

    def _scaled(self, factor: float) -> BoundCost:
        return TableCost(self.model, self.space, self.table * factor)
