"""`RowIndex`: which row of a table is the one that is asked for, a million times a second."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Places = NDArray[np.intp]

# Rows are numbered by mixed radix, where the numbers fit into 64 bits.
MOST = 2**62
# Up to so many numbers, an array says directly which row each is of.
DENSE = 2**22


class RowIndex:
    """Finds rows by value.

    Args:
        space: of the rows.
        rows: `(m, columns)`, the table's.

    Attributes:
        repeated: two places of the same row, or None where all differ.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([1, 2]), sn.oneof([3, 4])])
    >>> RowIndex(space, np.array([[1, 0], [0, 1]])).find(np.array([[0, 1], [1, 1]])).tolist()
    [1, -1]
    """

    def __init__(self, space: Space, rows: Rows) -> None:
        # One more than there are candidates: -1 stands for inactive.
        self._sizes = [d.size + 1 for d in space.decisions]
        self._total = math.prod(self._sizes)
        self.repeated: tuple[int, int] | None = None
        self._places: Places | dict[bytes, int]
        if self._total > MOST:
            self._places = {}
            for i, row in enumerate(np.ascontiguousarray(rows, np.int32)):
                first = self._places.setdefault(row.tobytes(), i)
                if first != i and self.repeated is None:
                    self.repeated = (first, i)
            return
        codes = self._codes(rows)
        order = np.argsort(codes, kind="stable")
        self._sorted, same = codes[order], np.flatnonzero(np.diff(codes[order]) == 0)
        if len(same):
            self.repeated = int(order[same[0]]), int(order[same[0] + 1])
        if self._total <= DENSE:
            self._places = np.full(self._total, -1, np.intp)
            self._places[codes] = np.arange(len(rows))
        else:
            self._places = order

    def find(self, rows: Rows) -> Places:
        """The place of each row in the table, -1 where it is not there: `(n,)`."""
        if isinstance(self._places, dict):
            rows = np.ascontiguousarray(rows, np.int32)
            return np.array([self._places.get(row.tobytes(), -1) for row in rows], np.intp)
        codes = self._codes(rows)
        if self._total <= DENSE:
            return np.where(codes < 0, -1, self._places[codes])
        at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        return np.where(self._sorted[at] == codes, self._places[at], -1)

    def _codes(self, rows: Rows) -> NDArray[np.int64]:
        """The number of each row, -1 for what can be no row: `(n,)`."""
        codes = np.zeros(len(rows), np.int64)
        valid = np.ones(len(rows), bool)
        for column, size in enumerate(self._sizes):
            digit = rows[:, column].astype(np.int64) + 1
            valid &= (digit >= 0) & (digit < size)
            codes = codes * size + digit
        return np.where(valid, codes, -1)
