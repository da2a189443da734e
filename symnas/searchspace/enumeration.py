"""All rows of a space, in order."""

from __future__ import annotations

from collections.abc import Iterator

from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Compiled
from symnas.searchspace.count import allowed


def all_rows(compiled: Compiled, levels: int | None = None) -> Iterator[list[int]]:
    """Every row once: parents first, the last column of that order changing fastest.

    A float takes `levels` values, evenly spaced on its scale from end to end.
    """
    columns = compiled.columns
    order = compiled.order
    rules = {c: rule for rule in compiled.rules for c in rule.columns}
    row = [-1] * len(columns)
    values = [
        _spread(column.size, levels) if column.kind == "float" and levels else range(column.size)
        for column in columns
    ]

    def extend(depth: int) -> Iterator[list[int]]:
        if depth == len(order):
            yield list(row)
            return
        i = order[depth]
        if not cond.holds_row(columns[i].condition, row):
            row[i] = -1
            yield from extend(depth + 1)
            return
        rule = rules.get(i)
        for value in values[i]:
            row[i] = value
            if rule is not None:
                picked = [row[c] for c in rule.columns[: rule.columns.index(i) + 1]]
                if not allowed(picked, rule):
                    continue
            yield from extend(depth + 1)
        row[i] = -1

    return extend(0)


def _spread(size: int, levels: int) -> list[int]:
    if levels == 1:
        return [(size - 1) // 2]
    return [round(k * (size - 1) / (levels - 1)) for k in range(levels)]
