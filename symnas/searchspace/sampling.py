"""Rows drawn uniformly over decisions, as PyGlove draws them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Compiled
from symnas.searchspace.count import draw_picks


def sample_decisions(compiled: Compiled, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """`n` rows: each active decision takes each of its values with the same probability."""
    columns = compiled.columns
    ruled = {c: rule for rule in compiled.rules for c in rule.columns}
    rows = np.empty((n, len(columns)), np.int32)
    by_size: dict[int, list[int]] = {}
    for i, column in enumerate(columns):
        if column.condition == cond.ALWAYS and i not in ruled:
            by_size.setdefault(column.size, []).append(i)
    for size, group in by_size.items():
        # The narrowest type that holds the values draws several times faster.
        narrow = np.uint8 if size <= 256 else np.uint16 if size <= 65_536 else np.uint32
        drawn = rng.integers(0, size, (n, len(group)), dtype=narrow)
        if len(group) == len(columns):
            rows[:] = drawn
        else:
            rows[:, group] = drawn
    sizes = [c.size for c in columns]
    for i in compiled.order:
        column = columns[i]
        rule = ruled.get(i)
        if column.condition == cond.ALWAYS and rule is None:
            continue
        if rule is not None and i != rule.columns[0]:
            continue  # drawn with the first column of its manyof
        if column.condition == cond.ALWAYS:
            active = np.arange(n)
        else:
            active = np.flatnonzero(cond.holds(column.condition, rows, sizes))
        if rule is not None:
            for c in rule.columns:
                rows[:, c] = -1
            rows[np.ix_(active, np.array(rule.columns))] = draw_picks(
                rule, column.size, len(active), rng
            )
        else:
            rows[:, i] = -1
            rows[active, i] = rng.integers(0, column.size, len(active))
    return rows
