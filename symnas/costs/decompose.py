"""Rewriting a table over many decisions as a sum of tables over few.

What an author's code makes of a decision decides which decisions a layer's cost *can* depend on;
the sum over layers often needs fewer at a time. An anchored decomposition (F. Kuo et al., "On
decompositions of multivariate functions", Math. Comp. 2010, Section 3) finds the interactions
that are really there, so that what follows from the tables does not depend on coding style.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from symnas.costs.structure import Columns, Structure, aligned
from symnas.costs.table import CostTable, Term

Values = NDArray[np.float64]
Terms = dict[Columns, Values]

# Interactions below this share of the largest cost are rounding.
TOLERANCE = 1e-11


def simplified(structure: Structure, terms: Iterable[Term], bias: float = 0.0) -> CostTable:
    """The same cost on every row of the space, as terms over as few decisions as possible.

    Conditional decisions keep the decisions that guard them in their terms, and entries that no
    row reaches are 0, so that expectations are products of probabilities.
    """
    found: Terms = {}
    for term in terms:
        columns = structure.closed(term.columns)
        values = np.broadcast_to(
            aligned(term.values, term.columns, columns), structure.shape(columns)
        )
        _add(found, columns, np.where(structure.reachable(columns), values, 0.0))
    found = _contained(structure, found)
    result: Terms = {}
    for columns, values in found.items():
        scale = float(np.abs(values).max(initial=0.0))
        _decompose(structure, columns, values, TOLERANCE * scale, result)
    bias += float(result.pop((), np.zeros(())))
    result = _contained(structure, result)
    return CostTable(bias, [Term(c, v) for c, v in sorted(result.items()) if v.any()])


def _add(terms: Terms, columns: Columns, values: Values) -> None:
    before = terms.get(columns)
    terms[columns] = np.array(values, np.float64) if before is None else before + values


def _decompose(
    structure: Structure, columns: Columns, values: Values, tolerance: float, result: Terms
) -> None:
    """Adds to `result` the terms whose sum `values` is, on reachable entries."""
    if any(len(set(rule.columns) & set(columns)) > 1 for rule in structure.rules):
        _add(result, columns, values)  # entries that a `manyof` excludes leave gaps
        return
    reachable = structure.reachable(columns)
    guards = tuple(c for c in columns if any(c in structure.ancestors[d] for d in columns))
    rest = tuple(c for c in columns if c not in guards)
    order = [columns.index(c) for c in (*guards, *rest)]
    values, reachable = values.transpose(order), reachable.transpose(order)
    found: Terms = {}
    for guard in np.ndindex(structure.shape(guards)):
        inner = reachable[guard]
        if not inner.any():
            continue
        # A conditional decision is active for all of a guard's reachable entries, or for none.
        position = np.unravel_index(int(inner.argmax()), inner.shape)
        active = [c for c, i in zip(rest, position, strict=True) if i < structure.sizes[c]]
        index = tuple(
            slice(structure.sizes[c]) if c in active else structure.sizes[c] for c in rest
        )
        part = np.array(values[guard][index], np.float64)
        for axis in range(part.ndim):
            moved = np.moveaxis(part, axis, 0)
            moved[1:] -= moved[0]
        for n in range(len(active) + 1):
            for chosen in itertools.combinations(active, n):
                _keep(structure, guards, guard, active, chosen, part, tolerance, found)
    for own, own_values in found.items():
        needed = tuple(c for c in own if any(c in structure.ancestors[d] for d in own))
        if own != columns and len(needed) < len(guards):
            _decompose(structure, own, own_values, tolerance, result)
        else:
            _add(result, own, own_values)


def _keep(
    structure: Structure,
    guards: Columns,
    guard: tuple[int, ...],
    active: list[int],
    chosen: Columns,
    part: Values,
    tolerance: float,
    found: Terms,
) -> None:
    """Keeps the interaction of `chosen` decisions under one assignment of the guards."""
    effect = part[tuple(slice(1, None) if c in chosen else 0 for c in active)]
    if not (np.abs(effect) > tolerance).any():
        return
    columns = tuple(sorted((*guards, *chosen)))
    values = found.setdefault(columns, np.zeros(structure.shape(columns)))
    own: dict[int, int | slice] = dict(zip(guards, guard, strict=True))
    own.update({c: slice(1, structure.sizes[c]) for c in chosen})
    values[tuple(own[c] for c in columns)] = effect


def _contained(structure: Structure, terms: Terms) -> Terms:
    """Terms whose decisions are among those of another are added to it."""
    kept: Terms = {}
    for columns in sorted(terms, key=lambda c: (-len(c), c)):
        values = terms[columns]
        wider = [other for other in kept if set(columns) <= set(other)]
        if wider and columns:
            into = min(wider, key=structure.entries)
            mask = structure.reachable(into)
            kept[into] = kept[into] + np.where(mask, aligned(values, columns, into), 0.0)
        else:
            kept[columns] = values
    return kept
