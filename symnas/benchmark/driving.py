"""One search on a table: who is asked and told when, on simulated workers.

The order is that of a real search (`symnas.searching.loop`): a proposal is asked for when all
results but `workers` - 1 have been told, in the order of `symnas.searching.order`: that of proposal,
or, with budgets, that in which trials would end if each took its budget. It is begun when they have
come and a worker is free. So simulated time says what a search on so many workers would take, if
proposing took no time.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.benchmark.base import Table
from symnas.benchmark.limits import Below
from symnas.costs.constraints import Constraints
from symnas.searching.checks import at_least
from symnas.searching.objectives import Objective
from symnas.searching.order import Order
from symnas.searching.problem import Problem

Floats = NDArray[np.float64]

# An evaluation at the full budget, or on a table without budgets, spends one.
ROUNDING = 1e-9


class Asked(Protocol):
    """What proposes: a `Run` of symnas, or a peer's."""

    def ask(self, n: int) -> NDArray[np.int32]: ...

    def tell(self, rows: NDArray[np.int32], scores: Floats) -> None: ...


class Contender(Protocol):
    """What can be compared: an algorithm of symnas, or a peer.

    A peer may propose twice and what breaks the limits; where its class says `peer = True`, it is
    told the values of such proposals too, and looks at `problem.constraints` itself.
    """

    def start(self, problem: Problem) -> Asked: ...


@attrs.frozen
class Setup:
    """What is solved, and for how long.

    Attributes:
        objectives: names of columns to improve, each in its direction.
        evaluations: how many, in units of the full budget.
        limits: on costs.
        budget: at which architectures are evaluated; None: the table's largest.
        workers: simulated ones.
        seconds: the column that says how long an evaluation takes; None: one second.
    """

    objectives: tuple[str, ...]
    evaluations: int = attrs.field(validator=at_least(1))
    limits: tuple[Below, ...] = ()
    budget: float | None = None
    workers: int = attrs.field(default=1, validator=at_least(1))
    seconds: str | None = None


@attrs.frozen(eq=False)
class Record:
    """What happened in one search, in order of proposal.

    Attributes:
        rows: `(n, columns)`, what was proposed.
        values: `(n, objectives)`, at the full budget; NaN where the table does not know, or where
            the proposal was evaluated at a lower budget only.
        feasible: `(n,)`, whether the limits were kept.
        spent: `(n,)`, evaluations so far, this one included.
        finished: `(n,)`, simulated seconds.
        distinct: the share of proposals that no earlier one was the same as, at the same budget.
        seconds: real ones, for asking and telling.
        ending: why it ended, "" where all evaluations were spent.
    """

    rows: NDArray[np.int32]
    values: Floats
    feasible: NDArray[np.bool_]
    spent: Floats
    finished: Floats
    distinct: float
    seconds: float
    ending: str = ""

    @property
    def infeasible(self) -> float:
        """The share of proposals that broke a limit."""
        return float(1.0 - self.feasible.mean()) if len(self.rows) else 0.0


def problem_of(table: Table, setup: Setup, seed: int) -> Problem:
    """The problem that an algorithm is given.

    Raises:
        ValueError: the table lacks a column.
        Infeasible: no architecture keeps the limits.
    """
    objectives = []
    for name in setup.objectives:
        column = table.column(name)
        cost = table.cost(column.name) if column.kind == "cost" else None
        objectives.append(Objective(column.name, column.direction, cost))
    constraints = Constraints.of([limit.constraint(table) for limit in setup.limits])
    bound = constraints.bind(table.space) if len(constraints) else None
    costs = {} if bound is None else {cost.name: cost for cost in bound.costs}
    for objective in objectives:
        if objective.cost is not None and objective.name not in costs:
            costs[objective.name] = objective.cost.bind(table.space)
    return Problem(table.space, objectives, bound, seed, costs=costs)


def drive(table: Table, contender: Contender, setup: Setup, seed: int) -> Record:
    """Searches once.

    Raises:
        ValueError: the table lacks a column or a budget, or the algorithm does not fit.
    """
    return _Search(table, contender, setup, seed).go()


class _Search:
    def __init__(self, table: Table, contender: Contender, setup: Setup, seed: int) -> None:
        self.table, self.setup = table, setup
        self.problem = problem_of(table, setup, seed)
        check = getattr(contender, "check", None)
        if check is not None:
            check(self.problem)
        self.full = table.budgets[table.level(setup.budget)] if table.budgets else None
        self.signs = np.array([table.column(name).sign for name in setup.objectives], float)
        self.peer = bool(getattr(contender, "peer", False))
        self.overhead = 0.0
        with self:
            self.run = contender.start(self.problem)
        self.rows: list[NDArray[np.int32]] = []
        self.scores: list[Floats] = []
        self.values: list[Floats] = []
        self.feasible: list[bool] = []
        self.spent: list[float] = []
        self.finished: list[float] = []
        self.seen: list[tuple[bytes, float | None]] = []
        self.order = Order()

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.overhead += time.perf_counter() - self._began

    def go(self) -> Record:
        setup, ending = self.setup, ""
        free = [0.0] * setup.workers  # when each worker is
        known = 0.0  # when the latest result that was told had come
        while (spent := self.spent[-1] if self.spent else 0.0) < setup.evaluations - ROUNDING:
            while len(self.order) >= setup.workers:
                known = max(known, self._tell_next())
            asked = self._ask()
            while not len(asked) and len(self.order):  # it may need a result that is still open
                known = max(known, self._tell_next())
                asked = self._ask()
            if not len(asked):
                ending = "nothing left" if self.problem.exhausted else "no more proposals"
                break
            row = np.array(asked[:1], np.int32)
            budget = next(reversed(self.problem.budgets_of(row[0])), None)
            share, seconds = self._evaluate(row, budget)
            if spent + share > setup.evaluations + ROUNDING:
                self._forget()  # an evaluation at a high budget, of which only a part is left
                break
            self.order.begin(len(self.spent), budget)
            self.spent.append(spent + share)
            begun = max(known, heapq.heappop(free))
            heapq.heappush(free, begun + seconds)
            self.finished.append(begun + seconds)
        while len(self.order):
            self._tell_next()
        return self._record(ending)

    def _ask(self) -> NDArray[np.int32]:
        with self:
            return self.run.ask(1)

    def _evaluate(self, row: NDArray[np.int32], budget: float | None) -> tuple[float, float]:
        """Looks a proposal up; returns what it spends, in evaluations and in seconds."""
        problem, table, setup = self.problem, self.table, self.setup
        budget = setup.budget if budget is None else budget
        values = np.array([table.values(name, row, budget)[0] for name in setup.objectives])
        share = 1.0 if self.full is None or budget is None else budget / self.full
        self.rows.append(row[0])
        self.scores.append(values * self.signs)
        whole = abs(share - 1.0) < ROUNDING
        self.values.append(values if whole else np.full(len(values), np.nan))
        self.feasible.append(bool(problem.feasible(row)[0]))
        self.seen.append((table.space.keys(row)[0], budget))
        seconds = 1.0
        if setup.seconds is not None:
            # Unknown architectures fail at once.
            seconds = max(0.0, float(np.nan_to_num(table.values(setup.seconds, row, budget)[0])))
        return share, seconds

    def _forget(self) -> None:
        for kept in (self.rows, self.scores, self.values, self.feasible, self.seen):
            del kept[-1]

    def _tell_next(self) -> float:
        """Tells the next result in order; returns when it had come."""
        i = self.order.next()
        scores = self.scores[i]
        if not self.feasible[i] and not self.peer:
            scores = np.full_like(scores, np.nan)
        with self:
            self.run.tell(self.rows[i][None].copy(), scores[None].copy())
        return self.finished[i]

    def _record(self, ending: str) -> Record:
        n, width = len(self.rows), len(self.table.space)
        return Record(
            np.array(self.rows, np.int32).reshape(n, width),
            np.array(self.values, float).reshape(n, len(self.signs)),
            np.array(self.feasible, bool),
            np.array(self.spent, float),
            np.array(self.finished, float),
            len(set(self.seen)) / max(1, n),
            self.overhead,
            ending,
        )


def names_of(objectives: str | Sequence[str] | None, table: Table) -> tuple[str, ...]:
    """The columns to improve; by default the first metric.

    Raises:
        ValueError: the table lacks one, or has no metric.
    """
    if objectives is None:
        metrics = table.of_kind("metric")
        if not metrics:
            raise ValueError(f"The table {table.name} has no metric: pass `objectives`.")
        return (metrics[0].name,)
    given = (objectives,) if isinstance(objectives, str) else tuple(objectives)
    return tuple(table.column(name).name for name in given)
