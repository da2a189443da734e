"""The best architecture of a table: looked up where all are known, else searched for."""

from __future__ import annotations

import numpy as np

from symnas.benchmark.base import Rows, Table


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
    at = table.space.sample(starts, seed)
    at = at[table.space.is_valid(at)]
    values = found.sign * table.values(found.name, at)
    going = np.isfinite(values)
    if not going.any():
        raise ValueError(f"{table.name} has no result in the column {found.name!r}.")
    values = np.where(going, values, -np.inf)
    while going.any():
        # All neighbors of all searches at once: a model answers many rows as fast as a few.
        moving = np.flatnonzero(going)
        around = [table.space.neighbors(at[i]) for i in moving]
        around = [near[table.space.is_valid(near)] for near in around]
        results = found.sign * table.values(found.name, np.concatenate(around))
        ends = np.cumsum([len(near) for near in around])[:-1]
        for i, near, result in zip(moving, around, np.split(results, ends), strict=True):
            best = int(np.argmax(np.nan_to_num(result, nan=-np.inf))) if len(near) else -1
            going[i] = best >= 0 and result[best] > values[i]
            if going[i]:
                at[i], values[i] = near[best], result[best]
    best = int(values.argmax())
    return at[best], float(found.sign * values[best])
