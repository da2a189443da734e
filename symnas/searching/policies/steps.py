"""A row as a sequence of draws, each from a few outcomes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.structure import structure_of
from symnas.searchspace import conditions as cond

if TYPE_CHECKING:
    from symnas.searchspace.compile import Rule
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]


@attrs.frozen(eq=False)
class Step:
    """The draw of one column.

    A float is drawn as one of a few levels, equally wide on its scale, and within that uniformly;
    the probability of a float is that of its level. Picks of a `manyof` that must differ, or be in
    order, are drawn one after another from what the earlier ones leave.

    Attributes:
        column: which one.
        size: the number of outcomes.
        values: the number of values of the column; more than outcomes only for a float.
        condition: when it is drawn.
        rule: of the `manyof` that it is a pick of, or None.
        before: the picks of that rule that come before.
        sizes: the number of values of all columns.
    """

    column: int
    size: int
    values: int
    condition: cond.Condition
    rule: Rule | None
    before: tuple[int, ...]
    sizes: list[int]

    def active(self, rows: Rows) -> NDArray[np.intp]:
        """In which rows it is drawn: indices `(m,)`, from the columns drawn before."""
        if self.condition == cond.ALWAYS:
            return np.arange(len(rows))
        return np.flatnonzero(cond.holds(self.condition, rows, self.sizes))

    def outcomes(self, values: Rows) -> NDArray[np.int64]:
        """Of values of the column, `(m,)`."""
        return values.astype(np.int64) * self.size // self.values

    def drawn(self, outcomes: NDArray[np.int64], rng: np.random.Generator) -> Rows:
        """Values of the column with these outcomes, `(m,)`."""
        if self.size == self.values:
            return outcomes.astype(np.int32)
        lowest = -(-outcomes * self.values // self.size)
        above = -(-(outcomes + 1) * self.values // self.size)
        return rng.integers(lowest, above).astype(np.int32)

    def room(self, rows: Rows) -> NDArray[np.float64] | None:
        """What is added to logits, `(m, size)`: -inf where earlier picks forbid a value.

        Where picks are in order, it is the logarithm of the number of ways to go on, so that even
        logits make all results equally likely. None: all is allowed.
        """
        rule = self.rule
        if rule is None or not (rule.distinct or rule.sorted):
            return None
        values = np.arange(self.size)
        free = np.ones((len(rows), self.size), bool)
        if not rule.sorted:
            for column in self.before:
                free[np.arange(len(rows)), rows[:, column]] = False
            return np.where(free, 0.0, -np.inf)
        if self.before:
            last = rows[:, self.before[-1], None]
            free = values > last if rule.distinct else values >= last
        left = len(rule.columns) - len(self.before) - 1
        ways = [self._ways(int(value), left) for value in values]
        logs = np.array([math.log(way) if way else -np.inf for way in ways])
        return np.where(free, logs, -np.inf)

    def _ways(self, value: int, left: int) -> int:
        """How many ordered picks can follow a value."""
        assert self.rule is not None
        if self.rule.distinct:
            return math.comb(self.size - 1 - value, left)
        return math.comb(self.size - value + left - 1, left)


def steps_of(space: Space, levels: int) -> list[Step]:
    """The draws that make a row of a space, those that others depend on first.

    >>> import symnas as sn
    >>> space = sn.Space([sn.floatv(0, 1), sn.manyof(2, [1, 2, 3])])
    >>> [(step.column, step.size, step.before) for step in steps_of(space, levels=8)]
    [(0, 8, ()), (1, 3, ()), (2, 3, (1,))]
    """
    structure = structure_of(space)
    rules = {column: rule for rule in structure.rules for column in rule.columns}
    steps: list[Step] = []
    for column in structure.order:
        rule = rules.get(column)
        if rule is not None and column != rule.columns[0]:
            continue  # drawn with the first pick
        for pick in (column,) if rule is None else rule.columns:
            size = values = structure.sizes[pick]
            if structure.floats[pick]:
                size = min(levels, values)
            before = () if rule is None else rule.columns[: rule.columns.index(pick)]
            condition = structure.conditions[column]
            steps.append(Step(pick, size, values, condition, rule, before, structure.sizes))
    return steps
