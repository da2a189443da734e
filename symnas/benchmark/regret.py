"""How far from the best a search is after so many evaluations.

One objective: the value of the best feasible architecture minus the best feasible one found.
Several: the hypervolume (E. Zitzler and L. Thiele, "Multiobjective Evolutionary Algorithms",
IEEE Trans. Evolutionary Computation 3(4), 1999) of the true front minus that of what was found.
Each objective is scaled to run from 0, its worst feasible value, to 1, its best; the reference
point is 0, so hypervolumes are shares of the box between the worst and the best. That scaling is
ours. Before anything feasible is found, the worst feasible value stands for the best found.

Where a table cannot list its architectures, what all searches found together stands for the best.
The box is then that of local searches, widened to hold all that was found: so it hardly depends on
who takes part in a comparison, and hypervolumes can be compared between comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import moocore
import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Table
from symnas.benchmark.driving import Record, Setup, problem_of
from symnas.benchmark.optimum import extremes

Floats = NDArray[np.float64]

# Sums of spent shares differ by less.
ROUNDING = 1e-9


@attrs.frozen(eq=False)
class Yardstick:
    """What can be reached on a table under given limits.

    Attributes:
        signs: `(objectives,)`, 1 for what is maximised, -1 for what is minimised.
        worst, best: of each objective alone, among feasible architectures, larger is better; with
            several objectives, as far as local searches know where not all are known.
        top: the quality of all feasible architectures together.
        known: whether all architectures are known; otherwise it is the best that was found.
    """

    signs: Floats
    worst: Floats
    best: Floats
    top: float
    known: bool

    @classmethod
    def of(cls, table: Table, setup: Setup, records: Iterable[Record]) -> Yardstick:
        """That of a table; of what the records found, where the table cannot list everything.

        Raises:
            ValueError: no feasible architecture has known values.
        """
        signs = np.array([table.column(name).sign for name in setup.objectives], float)
        rows = table.everything()
        if rows is not None:
            problem = problem_of(table, setup, 0)
            found = table.look_up(rows[problem.feasible(rows)], setup.budget)
            values = np.stack([found[table.column(n).name] for n in setup.objectives], axis=1)
        else:
            values = np.concatenate(
                [np.empty((0, len(signs))), *(r.values[r.feasible] for r in records)]
            )
        values = values[np.isfinite(values).all(axis=1)] * signs
        if not len(values):
            raise ValueError(
                f"No architecture of {table.name} that keeps the limits has known "
                f"{', '.join(setup.objectives)}."
            )
        worst, best = values.min(axis=0), values.max(axis=0)
        if rows is None and len(signs) > 1:
            low, high = extremes(
                table, setup.objectives, problem_of(table, setup, 0), budget=setup.budget
            )
            worst, best = np.fmin(worst, low), np.fmax(best, high)
        bare = cls(signs, worst, best, 0.0, rows is not None)
        return attrs.evolve(bare, top=bare.quality(values, last=True)[-1])

    def quality(self, values: Floats, last: bool = False) -> Floats:
        """How good what was found so far is, after each of these: `(n,)`, rising.

        Args:
            values: `(n, objectives)`, larger is better; NaN rows change nothing.
            last: only the last is needed: `(1,)`.
        """
        if len(self.signs) == 1:
            reached = np.where(np.isnan(values[:, 0]), -np.inf, values[:, 0])
            reached = np.maximum(np.maximum.accumulate(reached), self.worst[0])
            return np.asarray(reached[-1:] if last else reached, np.float64)
        width = np.where(self.best > self.worst, self.best - self.worst, 1.0)
        scaled = np.where(self.best > self.worst, (values - self.worst) / width, 1.0)
        if last:
            return np.array([_hypervolume(scaled[np.isfinite(values).all(axis=1)])])
        qualities = np.zeros(len(values))
        front = np.empty((0, len(self.signs)))
        for i, point in enumerate(scaled):
            if i:
                qualities[i] = qualities[i - 1]
            if np.isnan(values[i]).any() or (front >= point).all(axis=1).any():
                continue
            front = np.concatenate([front[~(front <= point).all(axis=1)], point[None]])
            qualities[i] = _hypervolume(front)
        return qualities

    def regrets(self, record: Record, at: Floats, axis: str = "evaluations") -> Floats:
        """The regret at points of an axis: `(len(at),)`.

        Args:
            record: of a search.
            at: numbers of evaluations, or simulated seconds.
            axis: "evaluations" or "seconds".
        """
        values = np.where(record.feasible[:, None], record.values, np.nan) * self.signs
        x = record.spent if axis == "evaluations" else record.finished
        order = np.argsort(x, kind="stable")
        start = self.quality(np.full((1, len(self.signs)), np.nan))
        qualities = np.concatenate([start, self.quality(values[order])])
        done = np.searchsorted(x[order], np.asarray(at, float) + ROUNDING, side="right")
        return np.asarray(self.top - qualities[done], np.float64)


def _hypervolume(points: Floats) -> float:
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=np.zeros(points.shape[1]), maximise=True))
