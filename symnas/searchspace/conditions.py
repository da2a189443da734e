"""When a decision is active: any-of all-of conditions over columns, kept small.

A clause maps columns to the values that it asks for; a condition is a list of clauses of which
one must hold. `[{}]` is always, `[]` is never.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Clause = dict[int, frozenset[int]]
Condition = list[Clause]

ALWAYS: Condition = [{}]


def both(condition: Condition, column: int, values: frozenset[int]) -> Condition:
    """`condition`, and `column` has one of `values`."""
    result = []
    for clause in condition:
        wanted = clause[column] & values if column in clause else values
        if wanted:
            result.append({**clause, column: wanted})
    return result


def conjunction(a: Condition, b: Condition) -> Condition:
    """Both conditions."""
    result = []
    for left in a:
        for right in b:
            merged = dict(left)
            for column, values in right.items():
                merged[column] = merged[column] & values if column in merged else values
            if all(merged.values()):
                result.append(merged)
    return reduce(result)


def either(a: Condition, b: Condition) -> Condition:
    """One of the two conditions."""
    return reduce([*a, *b])


def reduce(condition: Condition) -> Condition:
    """The same condition with fewer clauses: implied ones dropped, neighbours merged."""
    clauses = list(condition)
    changed = True
    while changed:
        changed = False
        for i in range(len(clauses)):
            for j in range(len(clauses)):
                if i != j and _implies(clauses[i], clauses[j]):
                    del clauses[i]
                    changed = True
                    break
                merged = _merge(clauses[i], clauses[j]) if i < j else None
                if merged is not None:
                    clauses[i] = merged
                    del clauses[j]
                    changed = True
                    break
            if changed:
                break
    return clauses


def _implies(a: Clause, b: Clause) -> bool:
    return all(column in a and a[column] <= values for column, values in b.items())


def _merge(a: Clause, b: Clause) -> Clause | None:
    if a.keys() != b.keys():
        return None
    different = [column for column in a if a[column] != b[column]]
    if len(different) != 1:
        return None
    return {**a, different[0]: a[different[0]] | b[different[0]]}


def drop_implied(condition: Condition, conditions: list[Condition], sizes: list[int]) -> Condition:
    """The same condition without what follows from its other parts.

    A column that has a value is active, so what its own activity asks for need not be repeated; a
    column that may have any of its values only has to be active.
    """
    result = []
    for clause in condition:
        kept = dict(clause)
        for column in sorted(clause):
            others = [c for c in kept if c != column]
            for other in others:
                needs = conditions[other]
                if needs and all(column in n and n[column] <= kept[column] for n in needs):
                    del kept[column]
                    break
        full = [c for c in kept if len(kept[c]) == sizes[c] and conditions[c] == ALWAYS]
        for column in full:
            del kept[column]
        result.append(kept)
    return reduce(result)


def holds(condition: Condition, rows: NDArray[np.int32], sizes: list[int]) -> NDArray[np.bool_]:
    """Which rows meet a condition. Rows are `(n, columns)`; the result is `(n,)`."""
    result = np.zeros(len(rows), bool)
    for clause in condition:
        met = np.ones(len(rows), bool)
        for column, values in clause.items():
            values_ = rows[:, column]
            if len(values) == sizes[column]:
                met &= values_ >= 0
            elif len(values) == 1:
                met &= values_ == next(iter(values))
            else:
                table = np.zeros(sizes[column] + 1, bool)  # the last entry stands for -1
                table[list(values)] = True
                met &= table[values_]
        result |= met
    return result


def holds_row(condition: Condition, row: list[int]) -> bool:
    """Whether one row, a list of integers, meets a condition."""
    for clause in condition:
        for column, values in clause.items():  # a plain loop: evolution spends its time here
            if row[column] not in values:
                break
        else:
            return True
    return False
