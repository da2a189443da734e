"""The best architecture of a table: looked up where all are known, else searched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Rows, Table

if TYPE_CHECKING:
    from symnas.searching.problem import Problem
    from symnas.searchspace.space import Space

Floats = NDArray[np.float64]


def optimum(table: Table, column: str, *, starts: int = 32, seed: int = 0) -> tuple[Rows, float]:
    """The row `(columns,)` with the best result in a column, and that result.

    Where the table lists everything, this is exact. Otherwise it is the best of `starts` local
    searches, each of which goes from a random row to the best neighbor (one decision changed) as
    long as that is better: what it finds can be beaten, but by no change of a single decision.

    Args:
        table: whose best row is wanted.
        column: in which; its direction says what is best.
        starts: local searches, where they are needed.
        seed: of where they start.

    Raises:
        ValueError: there is no such column, no result in it, or `starts` is not positive.
    """
    if starts < 1:
        raise ValueError(f"`starts` ({starts}) must be at least 1.")
    found = table.column(column)
    rows = table.everything()
    if rows is not None:
        values = found.sign * table.values(found.name, rows)
        if np.isnan(values).all():
            raise ValueError(f"{table.name} has no result in the column {found.name!r}.")
        best = int(np.nanargmax(values))
        return rows[best], float(found.sign * values[best])
    space = table.space
    at = space.sample(starts, seed)
    at, values = _climbed(
        space,
        at[space.is_valid(at)],
        space.is_valid,
        lambda r: found.sign * table.values(column, r),
    )
    if not np.isfinite(values).any():
        raise ValueError(f"{table.name} has no result in the column {found.name!r}.")
    best = int(values.argmax())
    return at[best], float(found.sign * values[best])


def extremes(
    table: Table,
    columns: Sequence[str],
    problem: Problem,
    *,
    budget: float | None = None,
    starts: int = 32,
) -> tuple[Floats, Floats]:
    """The worst and the best value of each column among a problem's feasible architectures.

    As far as local searches find them: both are `(columns,)`, larger is better, NaN where no start
    has a result.

    Args:
        table: of the values.
        columns: which.
        problem: whose limits are kept; it is not to be solved, as rows are dealt from it.
        budget: of the values.
        starts: local searches a value.
    """
    at = problem.sample(starts, key=0)
    ends = np.full((2, len(columns)), np.nan)
    for i, name in enumerate(columns):
        for j, sign in enumerate((-1, 1)):
            turned = sign * table.column(name).sign

            def score(rows: Rows, name: str = name, turned: int = turned) -> Floats:
                return turned * table.values(name, rows, budget)

            _, values = _climbed(table.space, at, problem.feasible, score)
            reached = values[np.isfinite(values)]
            ends[j, i] = sign * reached.max() if len(reached) else np.nan
    return ends[0], ends[1]


def _climbed(
    space: Space,
    at: Rows,
    allowed: Callable[[Rows], NDArray[np.bool_]],
    score: Callable[[Rows], Floats],
) -> tuple[Rows, Floats]:
    """Where local searches end, and what is there: -inf where the start has no result."""
    at = at.copy()
    if not len(at):
        return at, np.empty(0)
    values = score(at)
    going = np.isfinite(values)
    values = np.where(going, values, -np.inf)
    while going.any():
        # All neighbors of all searches at once: a model answers many rows as fast as a few.
        moving = np.flatnonzero(going)
        around = [space.neighbors(at[i]) for i in moving]
        around = [near[allowed(near)] for near in around]
        results = score(np.concatenate(around))
        ends = np.cumsum([len(near) for near in around])[:-1]
        for i, near, result in zip(moving, around, np.split(results, ends), strict=True):
            best = int(np.argmax(np.nan_to_num(result, nan=-np.inf))) if len(near) else -1
            going[i] = best >= 0 and result[best] > values[i]
            if going[i]:
                at[i], values[i] = near[best], result[best]
    return at, values
