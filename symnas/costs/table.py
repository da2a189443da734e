"""`CostTable`: a cost as a sum of small tables over a few decisions each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]

# Rows that are costed at once: their columns and the tables then stay in the processor's cache.
CHUNK = 8192


def _columns(columns: Iterable[int]) -> tuple[int, ...]:
    return tuple(columns)


def _values(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64, order="C")


@attrs.frozen(eq=False)
class Term:
    """One table: what a few decisions together add to the cost.

    Attributes:
        columns: indices of the decisions, ascending.
        values: one axis a decision, as long as it has candidates; where the decision can be
            inactive, one entry longer, and that last entry stands for inactive.
    """

    columns: tuple[int, ...] = attrs.field(converter=_columns)
    values: NDArray[np.float64] = attrs.field(converter=_values)

    def __attrs_post_init__(self) -> None:
        if self.values.ndim != len(self.columns) or list(self.columns) != sorted(set(self.columns)):
            raise ValueError(
                f"A term's `columns` {self.columns} must be ascending, and `values` of shape "
                f"{self.values.shape} have one axis for each."
            )


def _terms(terms: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(terms)


@attrs.frozen(eq=False)
class CostTable:
    """`cost(row) = bias + sum over terms of values[row[columns]]`.

    >>> import numpy as np
    >>> table = CostTable(5.0, [Term((0,), [1, 2]), Term((0, 1), [[0, 10], [0, 20]])])
    >>> table(np.array([[0, 0], [1, 1]]))
    array([ 6., 27.])
    >>> (2 * table + table)(np.array([[1, 1]]))
    array([81.])
    """

    bias: float = attrs.field(default=0.0, converter=float)
    terms: tuple[Term, ...] = attrs.field(default=(), converter=_terms)
    _plan: list[Any] = attrs.field(factory=list, init=False, repr=False)

    @property
    def columns(self) -> tuple[int, ...]:
        """All columns that the cost depends on."""
        return tuple(sorted({c for term in self.terms for c in term.columns}))

    @property
    def entries(self) -> int:
        """How many numbers the tables hold."""
        return sum(term.values.size for term in self.terms)

    @property
    def largest(self) -> int:
        """The most decisions in one term."""
        return max((len(term.columns) for term in self.terms), default=0)

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        """The costs of rows `(n, columns)`: `(n,)`. Linear in rows and terms."""
        plan = self._prepared(rows.shape[1] if rows.ndim == 2 else 0)
        result = np.full(len(rows), self.bias)
        for start in range(0, len(rows), CHUNK):
            part = np.ascontiguousarray(rows[start : start + CHUNK].T, np.intp)
            part += 1
            costs = result[start : start + CHUNK]
            for columns, strides, values in plan:
                if not columns:
                    costs += values[0]
                    continue
                index = part[columns[0]] * strides[0]
                for column, stride in zip(columns[1:], strides[1:], strict=True):
                    index += part[column] * stride
                costs += values.take(index)
        return result

    def _prepared(self, width: int) -> list[Any]:
        """Terms with the entry for -1 in front on every axis, so that a row's index is linear."""
        if not self._plan:
            for term in self.terms:
                if term.columns and term.columns[-1] >= width:
                    raise ValueError(
                        f"The rows have {width} columns; the table has a term over "
                        f"{term.columns}: it belongs to another space."
                    )
                values = term.values
                for axis in range(values.ndim):
                    last = values.take([-1], axis)
                    values = np.concatenate([last, values], axis)
                strides = [math.prod(values.shape[i + 1 :]) for i in range(values.ndim)]
                self._plan.append((term.columns, strides, values.reshape(-1)))
        return self._plan

    def __add__(self, other: CostTable | float) -> CostTable:
        if isinstance(other, CostTable):
            return CostTable(self.bias + other.bias, merged([*self.terms, *other.terms]))
        return CostTable(self.bias + other, self.terms)

    __radd__ = __add__

    def __mul__(self, factor: float) -> CostTable:
        return CostTable(
            self.bias * factor, [Term(t.columns, t.values * factor) for t in self.terms]
        )

    __rmul__ = __mul__

    def __neg__(self) -> CostTable:
        return self * -1.0

    def __sub__(self, other: CostTable | float) -> CostTable:
        return self + -other


def merged(terms: Iterable[Term]) -> list[Term]:
    """Terms over the same columns, added up; those without any effect left out."""
    found: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for term in terms:
        before = found.get(term.columns)
        found[term.columns] = term.values if before is None else before + term.values
    return [Term(columns, values) for columns, values in found.items() if values.any()]


def table_columns(tables: Sequence[CostTable]) -> set[int]:
    """All columns that some tables depend on."""
    return {c for table in tables for c in table.columns}
