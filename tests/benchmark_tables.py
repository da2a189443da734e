"""Small tables for tests of the benchmark harness: all numbers can be checked by hand."""

from __future__ import annotations

import numpy as np

import symnas as sn
from symnas.benchmark import Column, Tabulated


def grid_space(sides=(4, 4)):
    """Independent ordinal decisions d0, d1, ..., each from 0 to its side - 1."""
    return sn.Space(
        [sn.oneof(list(range(side)), name=f"d{i}") for i, side in enumerate(sides)], name="grid"
    )


def grid(sides=(4, 4), name="grid", budgets=()):
    """Every row; `score` is 10 d0 + d1 + ..., `ms` the sum of all, `hours` 1 + d0.

    With budgets, the score at the first is half of that.
    """
    space = grid_space(sides)
    rows = np.concatenate(list(space.enumerate()))
    score = 10.0 * rows[:, 0] + rows[:, 1:].sum(axis=1)
    if budgets:
        score = np.stack([score / 2, score], axis=1)
    columns = [
        Column("score", "maximize", "points"),
        Column("ms", "minimize", "ms", "cost"),
        Column("hours", "minimize", "s", "seconds"),
    ]
    results = {"score": score, "ms": rows.sum(axis=1), "hours": 1.0 + rows[:, 0]}
    return Tabulated(name, space, columns, rows, results, budgets)


class Scripted:
    """Proposes given rows in order, and keeps what it is told when, as (proposals, told)."""

    def __init__(self, rows, peer=False):
        self.rows, self.peer = [list(row) for row in rows], peer
        self.log = []

    def __repr__(self):
        return f"Scripted({self.rows}, {self.peer})"

    def start(self, problem):
        self.problem, self.asked, self.log = problem, 0, []
        return self

    def ask(self, n):
        rows = self.rows[self.asked : self.asked + n]
        self.asked += len(rows)
        self.log.append("ask")
        return np.array(rows, np.int32).reshape(len(rows), len(self.problem.space))

    def tell(self, rows, scores):
        self.log.append((rows[0].tolist(), scores[0].tolist()))


def counted(monkeypatch):
    """The cells that are really done in this process."""
    from symnas.benchmark import pool

    done = []

    def drive(table, contender, setup, seed, inner=pool.drive):
        done.append((contender, seed))
        return inner(table, contender, setup, seed)

    monkeypatch.setattr(pool, "drive", drive)
    return done
