"""Small changes of rows: mutation, crossover, neighbours. The results are rows of the space."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs

from symnas.searchspace import conditions as cond
from symnas.searchspace.compile import Compiled, Rule
from symnas.searchspace.count import allowed
from symnas.searchspace.decision import FLOAT_LEVELS

# A float moves by a normal step of this share of its range, and always by at least one level.
FLOAT_STEP = 0.1


@attrs.define
class Moves:
    """Moves within one space; rows are lists of integers."""

    compiled: Compiled
    sizes: list[int] = attrs.field(init=False)
    conditional: list[int] = attrs.field(init=False)
    rules: dict[int, Rule] = attrs.field(init=False)
    mutable: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        columns = self.compiled.columns
        self.sizes = [c.size for c in columns]
        self.conditional = [i for i in self.compiled.order if columns[i].condition != cond.ALWAYS]
        self.rules = {c: rule for rule in self.compiled.rules for c in rule.columns}
        self.mutable = [i for i, size in enumerate(self.sizes) if size > 1]

    def mutate(self, row: list[int], rng: random.Random) -> list[int]:
        """A copy of `row` with one active decision changed; what it activates is drawn anew.

        A permutation, which has no single change, swaps two of its places. A row without an
        alternative is returned as it is.
        """
        row = list(row)
        candidates = self.mutable
        if self.conditional:
            candidates = [i for i in candidates if row[i] >= 0]
        if not candidates:
            return row
        column = candidates[int(rng.random() * len(candidates))]
        rule = self.rules.get(column)
        if rule is not None:
            self._repick(row, column, rule, rng)
        elif self.sizes[column] == FLOAT_LEVELS:
            row[column] = self._step(row[column], rng)
        else:
            value = int(rng.random() * (self.sizes[column] - 1))
            row[column] = value + (value >= row[column])
        if self.conditional:
            self.repair(row, rng)
        return row

    def crossover(self, a: list[int], b: list[int], rng: random.Random) -> list[int]:
        """Each decision from either parent with equal probability; a manyof as a whole."""
        row = []
        taken: dict[int, list[int]] = {}
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            rule = self.rules.get(i)
            if rule is None:
                parent = a if rng.random() < 0.5 else b
            else:
                parent = taken.setdefault(rule.columns[0], a if rng.random() < 0.5 else b)
            value = parent[i]
            row.append(value if value >= 0 else max(x, y))
        if self.conditional:
            self.repair(row, rng)
        return row

    def neighbors(self, row: list[int]) -> Iterator[list[int]]:
        """Rows that differ in one decision, in order; newly active decisions take their first value."""
        for column in self.mutable:
            if row[column] < 0:
                continue
            rule = self.rules.get(column)
            if self.sizes[column] == FLOAT_LEVELS:
                step = FLOAT_LEVELS // 16
                values = [max(0, row[column] - step), min(FLOAT_LEVELS - 1, row[column] + step)]
            else:
                values = list(range(self.sizes[column]))
            for value in values:
                if value == row[column]:
                    continue
                changed = list(row)
                if rule is not None and rule.distinct and value in [row[c] for c in rule.columns]:
                    if rule.sorted:
                        continue
                    other = next(c for c in rule.columns if row[c] == value)
                    if other < column:
                        continue  # the same swap, seen from its other place
                    changed[other] = row[column]
                changed[column] = value
                if rule is not None and not allowed([changed[c] for c in rule.columns], rule):
                    continue
                self.repair(changed, None)
                yield changed

    def repair(self, row: list[int], rng: random.Random | None) -> None:
        """Makes activity agree with the conditions, in place; new values are drawn, or the first."""
        columns = self.compiled.columns
        for i in self.conditional:
            if cond.holds_row(columns[i].condition, row):
                rule = self.rules.get(i)
                if rule is not None and (row[i] < 0 or i == rule.columns[0]):
                    values = [row[c] for c in rule.columns]
                    if min(values) < 0 or not allowed(values, rule):
                        for c, v in zip(rule.columns, self._draw(rule, rng), strict=True):
                            row[c] = v
                elif row[i] < 0:
                    row[i] = int(rng.random() * self.sizes[i]) if rng is not None else 0
            else:
                row[i] = -1

    def _draw(self, rule: Rule, rng: random.Random | None) -> list[int]:
        n, k = self.sizes[rule.columns[0]], len(rule.columns)
        if rng is None:
            return list(range(k)) if rule.distinct else [0] * k
        picks = rng.sample(range(n), k) if rule.distinct else [rng.randrange(n) for _ in range(k)]
        return sorted(picks) if rule.sorted else picks

    def _repick(self, row: list[int], column: int, rule: Rule, rng: random.Random) -> None:
        n = self.sizes[column]
        values = {c: row[c] for c in rule.columns}
        if rule.distinct and len(rule.columns) == n and not rule.sorted:
            other = rng.choice([c for c in rule.columns if c != column])
            row[column], row[other] = row[other], row[column]
            return
        others = set(values.values()) - {row[column]} if rule.distinct else set()
        free = [v for v in range(n) if v != row[column] and v not in others]
        if not free:
            return
        values[column] = rng.choice(free)
        picks = [values[c] for c in rule.columns]
        for c, v in zip(rule.columns, sorted(picks) if rule.sorted else picks, strict=True):
            row[c] = v

    def _step(self, value: int, rng: random.Random) -> int:
        step = round(rng.gauss(0, FLOAT_STEP) * FLOAT_LEVELS)
        step = step or (1 if rng.random() < 0.5 else -1)
        moved = min(FLOAT_LEVELS - 1, max(0, value + step))
        return moved if moved != value else (value - 1 if value else 1)
