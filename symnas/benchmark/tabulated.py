"""`Tabulated`: a table that holds what was measured, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import attrs
import numpy as np

from symnas.benchmark.base import Column, Rows, Table, Values
from symnas.benchmark.index import RowIndex
from symnas.searchspace.space import Space


def _columns(columns: Iterable[Column] | Mapping[str, Column]) -> dict[str, Column]:
    found = list(columns.values() if isinstance(columns, Mapping) else columns)
    names = [column.name for column in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`columns`: {name!r} is there twice; each name may stand once.")
    return dict(zip(names, found, strict=True))


def _shown(columns: Iterable[str]) -> str:
    return repr(list(columns))


def _budgets(budgets: Iterable[float]) -> tuple[float, ...]:
    return tuple(budgets)


def _arrays(values: Mapping[str, Any]) -> dict[str, Values]:
    return {name: np.asarray(array, np.float64) for name, array in values.items()}


@attrs.frozen(eq=False, slots=False)
class Tabulated(Table):
    """A table of rows and of what is known about them.

    Args:
        name: of the benchmark.
        space: of the rows.
        columns: what is known.
        rows: `(m, columns)`, each architecture once.
        results: by column, `(m,)`, or `(m, budgets)` where it depends on the budget; NaN: unknown.
        budgets: the fidelities, smallest first; () if there is one.

    Raises:
        ValueError: a shape does not fit, a row is none of the space's, or one is there twice.

    >>> import symnas as sn
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 32], name="width")))
    >>> table = Tabulated(
    ...     "tiny", space, [Column("accuracy", "maximize", "%"), Column("ms", "minimize", kind="cost")],
    ...     [[0], [2]], {"accuracy": [70, 90], "ms": [1, 4]})
    >>> table.look_up([[2], [1]])
    {'accuracy': array([90., nan]), 'ms': array([ 4., nan])}
    >>> print(table.cost("ms") <= 2)
    ms <= 2
    """

    name: str
    space: Space
    columns: Mapping[str, Column] = attrs.field(converter=_columns, repr=_shown)
    rows: Rows = attrs.field(repr=False)
    results: Mapping[str, Values] = attrs.field(converter=_arrays, repr=False)
    budgets: tuple[float, ...] = attrs.field(default=(), converter=_budgets)

    @rows.validator
    def _check_rows(self, attribute: Any, value: Any) -> None:
        rows = self.checked(value)
        for number, row in enumerate(rows.tolist()):
            if not self.space.is_row(row):
                raise ValueError(
                    f"`rows[{number}]` ({row}) of {self.name} is no row of {self.space!r}: each "
                    "value is from 0 to its decision's size - 1, or -1 where that is inactive."
                )
        object.__setattr__(self, "rows", rows)

    def __attrs_post_init__(self) -> None:
        m = len(self.rows)
        if not m:
            raise ValueError(f"`rows` of {self.name} are empty: a table needs at least one.")
        if list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"`budgets` {self.budgets} of {self.name} must rise.")
        if set(self.results) != set(self.columns):
            odd = sorted(set(self.results) ^ set(self.columns))
            raise ValueError(
                f"`results` and `columns` of {self.name} must have the same names; only one has {odd}."
            )
        shapes = [(m,), (m, len(self.budgets))] if self.budgets else [(m,)]
        for name, array in self.results.items():
            if array.shape not in shapes:
                wanted = " or ".join(map(str, shapes))
                raise ValueError(
                    f"`results[{name!r}]` of {self.name} has shape {array.shape}; it must be {wanted}."
                )
        twice = self.index.repeated
        if twice is not None:
            raise ValueError(
                f"`rows[{twice[0]}]` and `rows[{twice[1]}]` of {self.name} are the same; merge their "
                "results (their mean, say), so that each architecture is there once."
            )

    @cached_property
    def index(self) -> RowIndex:
        """Finds rows."""
        return RowIndex(self.space, self.rows)

    def look_up(self, rows: Any, budget: float | None = None) -> dict[str, Values]:
        found, level = self.index.find(self.checked(rows)), self.level(budget)
        return {name: self._at(name, found, level) for name in self.columns}

    def values(self, name: str, rows: Any, budget: float | None = None) -> Values:
        found = self.index.find(self.checked(rows))
        return self._at(self.column(name).name, found, self.level(budget))

    def _at(self, name: str, found: Any, level: int) -> Values:
        array = self.results[name]
        taken: Values = (array if array.ndim == 1 else array[:, level])[found]
        return np.where(found < 0, np.nan, taken)

    def everything(self) -> Rows:
        return self.rows

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.columns, self.budgets, self.space.columns)).encode())
        digest.update(self.rows.tobytes())
        for name in sorted(self.results):
            digest.update(self.results[name].tobytes())
        return digest.hexdigest()[:16]
