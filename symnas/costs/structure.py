"""Which values a few decisions can have together: what tables over decisions are made on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symnas.searchspace import conditions as cond
from symnas.searchspace.count import allowed

if TYPE_CHECKING:
    from symnas.searchspace.compile import Rule
    from symnas.searchspace.space import Space

Columns = tuple[int, ...]


class Structure:
    """The sizes, conditions and rules of a space's columns.

    A table over columns has one axis a column: as long as the decision has candidates, and one
    entry longer where the decision can be inactive. That last entry stands for -1, as numpy's own
    indices have it.

    Attributes:
        axes: the length of each column's axis.
        conditional: whether each column can be inactive.
        parents: the columns that decide directly whether a column is active.
        ancestors: those, and theirs.
        order: the columns, parents first.
        rules: of `manyof`s: columns that constrain one another.
    """

    def __init__(self, space: Space) -> None:
        compiled = space._compiled
        self.conditions = [column.condition for column in compiled.columns]
        self.sizes = [column.size for column in compiled.columns]
        self.floats = [column.kind == "float" for column in compiled.columns]
        self.conditional = [condition != cond.ALWAYS for condition in self.conditions]
        self.axes = [n + c for n, c in zip(self.sizes, self.conditional, strict=True)]
        self.parents = [frozenset(p for clause in c for p in clause) for c in self.conditions]
        self.order: list[int] = list(compiled.order)
        self.rules: list[Rule] = list(compiled.rules)
        self.ancestors: list[frozenset[int]] = [frozenset()] * len(self.sizes)
        for column in self.order:
            above = [self.ancestors[p] for p in self.parents[column]]
            self.ancestors[column] = self.parents[column].union(*above)
        self.reachable = lru_cache(maxsize=4096)(self._reachable)

    def __len__(self) -> int:
        return len(self.sizes)

    def closed(self, columns: Iterable[int]) -> Columns:
        """Columns together with all that decide whether they are active, in order."""
        columns = set(columns)
        return tuple(sorted(columns.union(*(self.ancestors[c] for c in columns))))

    def shape(self, columns: Iterable[int]) -> tuple[int, ...]:
        """The shape of a table over columns."""
        return tuple(self.axes[c] for c in columns)

    def is_pick(self, column: int) -> bool:
        """Whether a column is one of several picks that constrain one another."""
        return any(column in rule.columns for rule in self.rules)

    def entries(self, columns: Iterable[int]) -> int:
        """How many entries a table over columns has."""
        total = 1
        for column in columns:
            total *= self.axes[column]
        return total

    def _reachable(self, columns: Columns) -> NDArray[np.bool_]:
        """Which values columns can have together, as a table; `columns` must be closed."""
        mask = np.ones(self.shape(columns), bool)
        for column in columns:
            if not self.conditional[column]:
                continue
            met = np.zeros(mask.shape, bool)
            for clause in self.conditions[column]:
                part = np.ones(mask.shape, bool)
                for parent, values in clause.items():
                    holds = np.zeros(self.axes[parent], bool)
                    holds[list(values)] = True
                    part &= along(holds, parent, columns)
                met |= part
            active = np.ones(self.axes[column], bool)
            active[-1] = False
            mask &= met == along(active, column, columns)
        for rule in self.rules:
            mask &= self._rule(rule, columns)
        return mask

    def _rule(self, rule: Rule, columns: Columns) -> NDArray[np.bool_]:
        """What a `manyof` allows of those of its picks that are among `columns`."""
        picks = [c for c in rule.columns if c in columns]
        if len(picks) < 2:
            return np.ones((1,) * len(columns), bool)
        table = np.zeros(self.shape(picks), bool)
        for index in np.ndindex(table.shape):
            values = [i if i < self.sizes[c] else -1 for i, c in zip(index, picks, strict=True)]
            active = [v for v in values if v >= 0]
            if not active or len(active) == len(values):
                table[index] = allowed(active, rule)
        return aligned(table, tuple(picks), columns)


def along(values: NDArray[Any], column: int, columns: Columns) -> NDArray[Any]:
    """Values of one column, shaped to be broadcast over a table of `columns`."""
    shape = [1] * len(columns)
    shape[columns.index(column)] = len(values)
    return values.reshape(shape)


def aligned(table: NDArray[Any], own: Sequence[int], columns: Columns) -> NDArray[Any]:
    """A table over its own columns, shaped to be broadcast over one of more columns."""
    order = sorted(range(len(own)), key=lambda axis: columns.index(own[axis]))
    table = table.transpose(order)
    lengths = iter(table.shape)
    return table.reshape([next(lengths) if c in own else 1 for c in columns])


def structure_of(space: Space) -> Structure:
    """The structure of a space, made once."""
    if "structure" not in space.derived:
        space.derived["structure"] = Structure(space)
    found: Structure = space.derived["structure"]
    return found
