"""How far a space reaches: random rows, then one decision changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]
Score = Callable[[Rows], NDArray[np.float64]]

# Costs of this expense or more are measured as rarely as possible.
DEAR = 8

# A space of more rows than this is not looked through to find the valid ones.
_MOST_ROWS = 4096
# So many rows are drawn, for each one wanted, where `valid` excludes some.
_DRAWS = 20


class Descent(NamedTuple):
    """Where a descent ended, its score, and how many rows it scored."""

    row: Rows
    score: float
    evaluations: int


class Reach:
    """Looks for extreme rows of a space; rows that its `valid` excludes are left out.

    Args:
        space: where to look.
        seed: of all randomness.
    """

    def __init__(self, space: Space, seed: Seed = 0) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)

    def all_rows(self, most: int) -> Rows | None:
        """Every valid row, in order; None if the space has more than `most`."""
        space = self._space
        if space.has_floats or space.size > min(most, _MOST_ROWS):
            return None
        rows = np.concatenate([*space.enumerate(), np.empty((0, len(space)), np.int32)])
        return rows[space.is_valid(rows)]

    def random_rows(self, n: int) -> Rows:
        """Up to `n` distinct valid rows, in random order."""
        space = self._space
        found: dict[bytes, Rows] = {}
        for _ in range(_DRAWS):
            rows = space.sample(n, seed=int(self._rng.integers(2**62)))
            for row in rows[space.is_valid(rows)]:
                if len(found) < n:
                    found.setdefault(row.tobytes(), row)
            if len(found) >= n:
                break
        return np.array(list(found.values()), np.int32).reshape(len(found), len(space))

    def descend(self, score: Score, start: Rows, budget: int, enough: float = -np.inf) -> Descent:
        """From `start`, changes one decision at a time to its best value, until none helps.

        Args:
            score: rows `(n, columns)` to scores `(n,)`, smaller is better.
            start: a valid row `(columns,)`.
            budget: the most rows to be scored.
            enough: stop at a score of this or less.
        """
        space = self._space
        row, best, used, stale = start, float(score(start[None])[0]), 0, 0
        neighbors = space.neighbors(row)
        columns: list[int] = []
        while stale < len(space) and used < budget and best > enough:
            if not columns:
                columns = self._rng.permutation(len(space)).tolist()
            column = columns.pop()
            stale += 1
            better = row
            for other in neighbors[_first_difference(neighbors, row) == column]:
                if used >= budget or best <= enough:
                    break
                if not space.is_valid(other[None])[0]:
                    continue
                value = float(score(other[None])[0])
                used += 1
                if value < best:
                    better, best, stale = other, value, 0
            if better is not row:
                row, neighbors = better, space.neighbors(better)
        return Descent(row, best, used)


def _first_difference(rows: Rows, row: Rows) -> NDArray[np.intp]:
    """The first column in which each of `rows` differs from `row`: `(n,)`."""
    return (rows != row).argmax(axis=1) if len(rows) else np.empty(0, np.intp)
