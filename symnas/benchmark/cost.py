"""`TabulatedCost`: a table's cost column as a cost model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.benchmark.base import Table, columns_in, row_of
from symnas.costs.bound import BoundCost, Range, Rows
from symnas.costs.model import CostFailed, CostModel

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.independent import Probabilities
    from symnas.searchspace.space import Seed, Space


@attrs.frozen(order=False, eq=False)
class TabulatedCost(CostModel):
    """What a table says an architecture costs.

    Architectures that the table does not know break every limit on the cost.
    """

    expense: ClassVar[int] = 1

    table: Table = attrs.field(repr=lambda table: table.name)
    column: str

    @property
    def name(self) -> str:
        return self.column

    @property
    def unit(self) -> str:
        return self.table.columns[self.column].unit

    @property
    def device(self) -> str:
        return self.column.partition(":")[2] or "any"

    def measure(self, architecture: Architecture) -> float:
        row = row_of(self.table.space, architecture)
        value = float(self.table.values(self.column, row[None])[0])
        if math.isnan(value):
            raise CostFailed(f"{self.name}: the table {self.table.name} has none for row {row}.")
        return value

    def _bound(self, space: Space) -> BoundCost:
        return LookedUp(self, space)

    def describe(self) -> dict[str, Any]:
        """What makes this cost the one it is."""
        return {
            "cost": f"{type(self).__module__}:{type(self).__qualname__}",
            "name": self.name,
            "unit": self.unit,
            "device": self.device_name,
            "options": {
                "table": self.table.name,
                "column": self.column,
                "digest": self.table.digest(),
            },
            "code": "",
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TabulatedCost):
            return NotImplemented
        return self.column == other.column and (
            self.table is other.table or self.table.digest() == other.table.digest()
        )

    def __hash__(self) -> int:
        return hash(self.column)


class LookedUp(BoundCost):
    """The cost of rows by a table; NaN where it has none.

    Where the table has every architecture of the space, `expected` and `range` are exact.
    """

    model: TabulatedCost

    def __init__(self, model: TabulatedCost, space: Space) -> None:
        super().__init__(model, space)
        columns = columns_in(model.table.space, space)
        if columns is None:
            raise ValueError(
                f"{model.name}: {space!r} lacks decisions of {model.table.space!r}, on which the table "
                f"{model.table.name} is. Search the table's own `space`."
            )
        self._columns = columns

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return self.model.table.values(self.model.column, rows[:, self._columns])

    @property
    def _all_rows(self) -> Rows | None:
        """All rows of the space, where the table has just these."""
        rows = self.model.table.everything()
        whole = rows is not None and self._columns == list(range(len(self.space)))
        return rows if whole and rows is not None and len(rows) == self.space.size else None

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        from symnas.costs.independent import Independent

        rows = self._all_rows
        if rows is None or self.space._compiled.rules:
            return super().expected(probabilities)
        independent = Independent(self.space, probabilities)
        shares = torch.ones(len(rows), dtype=torch.float64)
        for column in range(len(self.space)):
            # One behind the last probability stands 1: for where the decision is inactive.
            padded = torch.cat([independent.tensor(column), torch.ones(1, dtype=torch.float64)])
            shares = shares * padded[torch.from_numpy(rows[:, column].astype(np.int64))]
        return (shares * torch.from_numpy(self(rows))).sum()

    def range(self, seed: Seed = 0, evaluations: int | None = None) -> Range:
        rows = self._all_rows
        if rows is None or self.space.valid is not None:
            return super().range(seed, evaluations)
        values = self(rows)
        if np.isnan(values).any():
            return super().range(seed, evaluations)
        low, high = int(values.argmin()), int(values.argmax())
        return Range(
            float(values[low]), float(values[high]), rows[low], rows[high], len(rows), True
        )
