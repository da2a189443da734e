"""How many architectures a space has, and drawing them exactly uniformly.

Rows are the assignments that meet every column's condition and every rule: a sum of products, so
columns are eliminated one by one (variable elimination), in an order that keeps the tables small,
with Python's unlimited integers. Drawing runs through the same tables backwards.
Complexity: the product of the sizes of the columns that meet in the largest table, which is small
for tree-like spaces and grows where many conditions depend on many shared decisions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.errors import SymnasError
from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Compiled, Rule

MAX_TABLE = 2_000_000


@attrs.frozen
class Factor:
    """A table over some variables; axis i has one entry per value of variable i, -1 first."""

    variables: tuple[int, ...]
    table: NDArray[Any]


@attrs.frozen
class Elimination:
    """One step: the variable, and the table over what it depends on and itself (last axis)."""

    variable: int
    scope: tuple[int, ...]
    table: NDArray[Any]


class Counter:
    """Counts and draws the rows of a compiled program; float columns count as one value."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        columns = compiled.columns
        self.free = [c.condition == cond.ALWAYS for c in columns]
        # A float is left out of counts: it has one value here, and is drawn separately.
        self.sizes = [1 if c.kind == "float" else c.size for c in columns]
        used_as_parent = {p for c in columns for clause in c.condition for p in clause}
        # A manyof whose picks decide nothing else is one variable with so many values.
        self.bundles: dict[int, Rule] = {}
        self.bundled: set[int] = set()
        factors: list[Factor] = []
        for rule in compiled.rules:
            if not used_as_parent & set(rule.columns):
                self.bundles[rule.columns[0]] = rule
                self.bundled.update(rule.columns[1:])
            else:
                factors.append(self._rule_table(rule))
        self.variables = [i for i in range(len(columns)) if i not in self.bundled]
        factors.extend(self._column_table(i) for i in self.variables)
        self.steps, self.total = self._eliminate(factors)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """`n` rows, each architecture equally likely: `(n, columns)`."""
        rows = np.full((n, len(self.compiled.columns)), -1, np.int32)
        for step in reversed(self.steps):
            shape = step.table.shape
            if not step.scope and len(set(step.table.tolist())) == 1:
                drawn = rng.integers(0, shape[-1], n, dtype=np.int32)
                rows[:, step.variable] = drawn - self._offset(step.variable)
                continue
            flat = step.table.reshape(-1, shape[-1])
            cumulative = np.empty(flat.shape)
            for k, weights in enumerate(flat):
                total = sum(weights)
                running = 0
                for j, weight in enumerate(weights):
                    running += weight
                    cumulative[k, j] = running / total if total else 0.0
            index = np.zeros(n, np.int64)
            for variable, size in zip(step.scope, shape[:-1], strict=True):
                index = index * size + rows[:, variable] + self._offset(variable)
            u = rng.random(n)
            value = (cumulative[index] <= u[:, None]).sum(axis=1)
            rows[:, step.variable] = value - self._offset(step.variable)
        for first, rule in self.bundles.items():
            active = rows[:, first] >= 0
            rows[np.ix_(np.flatnonzero(active), np.array(rule.columns))] = draw_picks(
                rule, self.sizes[first], int(active.sum()), rng, uniform_results=True
            )
        return rows

    # Tables -----------------------------------------------------------------------------------

    def _offset(self, variable: int) -> int:
        return 0 if self.free[variable] else 1

    def _axis(self, variable: int) -> range:
        size = 1 if variable in self.bundles else self.sizes[variable]
        return range(-self._offset(variable), size)

    def _column_table(self, variable: int) -> Factor:
        """1 where the column is as active as its condition says (or the count of its picks)."""
        condition = self.compiled.columns[variable].condition
        parents = tuple(sorted({p for clause in condition for p in clause}))
        weight = self._picks(variable)
        table = np.zeros([len(self._axis(v)) for v in (*parents, variable)], dtype=object)
        _check(table.size)
        if not parents:
            table[...] = weight
            return Factor((variable,), table)
        row = [-1] * len(self.compiled.columns)
        for index in np.ndindex(table.shape[:-1]):
            for parent, i in zip(parents, index, strict=True):
                row[parent] = i - self._offset(parent)
            if cond.holds_row(condition, row):
                table[(*index, slice(1, None))] = weight
            else:
                table[(*index, 0)] = 1
        return Factor((*parents, variable), table)

    def _picks(self, variable: int) -> int:
        rule = self.bundles.get(variable)
        if rule is None:
            return 1
        n, k = self.sizes[variable], len(rule.columns)
        if rule.distinct:
            return math.comb(n, k) if rule.sorted else math.perm(n, k)
        return math.comb(n + k - 1, k)

    def _rule_table(self, rule: Rule) -> Factor:
        axes = [self._axis(v) for v in rule.columns]
        _check(math.prod(len(a) for a in axes))
        table = np.zeros([len(a) for a in axes], dtype=object)
        for index in np.ndindex(table.shape):
            values = [axis[i] for axis, i in zip(axes, index, strict=True)]
            active = [v for v in values if v >= 0]
            if active and len(active) < len(values):
                continue
            table[index] = int(allowed(active, rule))
        return Factor(rule.columns, table)

    def _eliminate(self, factors: list[Factor]) -> tuple[list[Elimination], int]:
        steps: list[Elimination] = []
        left = set(self.variables)
        total = 1
        while left:
            variable = min(left, key=lambda v: (self._cost(v, factors), -v))
            touching = [f for f in factors if variable in f.variables]
            factors = [f for f in factors if variable not in f.variables]
            scope = tuple(sorted({v for f in touching for v in f.variables} - {variable}))
            axes = (*scope, variable)
            _check(math.prod(len(self._axis(v)) for v in axes))
            product: Any = np.ones([len(self._axis(v)) for v in axes], dtype=object)
            for factor in touching:
                product = product * _aligned(factor, axes)
            steps.append(Elimination(variable, scope, product))
            summed = product.sum(axis=-1)
            if scope:
                factors.append(Factor(scope, summed))
            else:
                total *= int(summed)
            left.remove(variable)
        return steps, total

    def _cost(self, variable: int, factors: list[Factor]) -> int:
        scope = {v for f in factors if variable in f.variables for v in f.variables}
        return math.prod(len(self._axis(v)) for v in scope)


def allowed(values: Sequence[int], rule: Rule) -> bool:
    """Whether the picks of a `manyof` obey its rule."""
    if rule.distinct and len(set(values)) < len(values):
        return False
    return not rule.sorted or all(a <= b for a, b in itertools.pairwise(values))


def draw_picks(
    rule: Rule, n: int, rows: int, rng: np.random.Generator, uniform_results: bool = False
) -> NDArray[np.int32]:
    """Picks of `n` candidates for so many rows.

    Pick by pick, as PyGlove draws; with `uniform_results`, each allowed result equally likely
    (the two differ for ordered picks with replacement).
    """
    k = len(rule.columns)
    if rule.distinct:
        picks = rng.random((rows, n)).argsort(axis=1)[:, :k]
    elif uniform_results and rule.sorted:
        # Stars and bars: a multiset of k of n is a subset of k of n + k - 1.
        subset = np.sort(rng.random((rows, n + k - 1)).argsort(axis=1)[:, :k], axis=1)
        return (subset - np.arange(k)).astype(np.int32)
    else:
        picks = rng.integers(0, n, (rows, k))
    return (np.sort(picks, axis=1) if rule.sorted else picks).astype(np.int32)


def _aligned(factor: Factor, axes: tuple[int, ...]) -> NDArray[Any]:
    order = [factor.variables.index(v) for v in axes if v in factor.variables]
    table = factor.table.transpose(order)
    shape = iter(table.shape)
    return table.reshape([next(shape) if v in factor.variables else 1 for v in axes])


def _check(entries: int) -> None:
    if entries > MAX_TABLE:
        raise SymnasError(
            f"Counting this space exactly needs a table of {entries} entries (the limit is "
            f"{MAX_TABLE}): too many decisions depend on one another. Sampling with "
            "uniform='decisions' still works."
        )
