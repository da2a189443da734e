"""Driving an algorithm as a search does, without a study: for conformance suites and tests."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost
from symnas.costs.bound_constraints import BoundConstraints
from symnas.costs.bound_table import TableCost
from symnas.costs.constraints import Constraints
from symnas.costs.model import CostModel
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.searching.algorithm import Run
from symnas.searching.order import Order
from symnas.searching.problem import Problem
from symnas.searchspace.space import Space
from symnas.testing.examples import example_scores

Rows = NDArray[np.int32]
Scores = NDArray[np.float64]


@attrs.frozen(eq=False)
class Trajectory:
    """What was proposed, in order: rows `(n, columns)` and the budget of each, or None."""

    rows: Rows
    budgets: tuple[float | None, ...]

    def __len__(self) -> int:
        return len(self.budgets)

    def until(self, n: int) -> Trajectory:
        """The first `n`."""
        return Trajectory(self.rows[:n], self.budgets[:n])

    def propose_to(self, problem: Problem) -> None:
        """Goes through the proposals again, on another problem."""
        for row, budget in zip(self.rows, self.budgets, strict=True):
            problem.propose(row[None], budget)


def drive(problem: Problem, run: Run, trials: int, **options: Any) -> Rows:
    """Searches in this process; returns the rows proposed, `(<= trials, columns)`.

    The arguments are those of `trajectory`.
    """
    return trajectory(problem, run, trials, **options).rows


def trajectory(
    problem: Problem,
    run: Run,
    trials: int,
    *,
    ahead: int = 1,
    score: Callable[[Rows], Scores] = example_scores,
    before: Sequence[Rows] | Trajectory = (),
) -> Trajectory:
    """Searches in this process.

    Proposal i is asked for when exactly the results up to i - ahead were told, in order; with
    budgets, in the order that `symnas.searching.order` says.

    Args:
        problem: what is solved.
        run: a run of an algorithm on it.
        trials: when to stop, those in `before` included.
        ahead: how many proposals may be open when the next is asked for.
        score: gives the scores `(1, objectives)` of a row `(1, columns)`.
        before: what was proposed already, which is gone through again instead of asked for.
    """
    if not isinstance(before, Trajectory):
        before = Trajectory(np.array(list(before), np.int32), (None,) * len(before))
    rows: list[Rows] = []
    budgets: list[float | None] = []
    order = Order()

    def tell() -> None:
        row = rows[order.next()].copy()
        scores = score(row)
        run.tell(row, scores)
        row[:], scores[:] = -7, 1e9  # a run that keeps what it is lent keeps this

    while len(rows) < trials:
        number = len(rows)
        while len(order) >= ahead:
            tell()
        if number < len(before):
            asked = problem.propose(before.rows[number][None], before.budgets[number])
        else:
            asked = run.ask(1)
            while not len(asked) and len(order):
                tell()
                asked = run.ask(1)
        if not len(asked):
            break
        rows.append(np.array(asked))
        budgets.append(next(reversed(problem.budgets_of(asked[0])), None))
        order.begin(number, budgets[-1])
    while len(order):
        tell()
    every = np.concatenate(rows) if rows else np.empty((0, len(problem.space.columns)), np.int32)
    return Trajectory(every, tuple(budgets))


def same(expected: Rows, found: Rows, message: str) -> None:
    """Raises AssertionError where two trajectories part."""
    if np.array_equal(expected, found):
        return
    n = min(len(expected), len(found))
    different = np.flatnonzero((expected[:n] != found[:n]).any(axis=1))
    at = int(different[0]) if len(different) else n
    raise AssertionError(
        f"{message}: proposal {at} is {found[at : at + 1].tolist()}, "
        f"not {expected[at : at + 1].tolist()} ({len(found)} proposals against {len(expected)})"
    )


def go_on(problem: Problem, run: Run, told: Rows, trials: int) -> Rows:
    """Continues a run, one trial at a time; returns `told` and what came after."""
    rows = [told]
    for _ in range(len(told), trials):
        asked = run.ask(1)
        if not len(asked):
            break
        rows.append(np.array(asked))
        run.tell(rows[-1].copy(), example_scores(rows[-1]))
    return np.concatenate(rows)


class Allowed(BoundConstraints):
    """Constraints that allow every so-many-th row: nothing is known of them but their mask."""

    def __init__(self, space: Space, share: int) -> None:
        super().__init__(Constraints(), space)
        self.share = share

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        weights = np.arange(3, 3 + rows.shape[1])
        allowed: NDArray[np.bool_] = ((rows + 1) @ weights) % self.share == 0
        return allowed


@attrs.frozen(order=False)
class ExampleCost(CostModel):
    """A table of random numbers: each decision costs something, and neighbours cost together."""

    unit = "points"

    def measure(self, architecture: Any) -> float:
        return float(self.bind(architecture.space)([architecture.row])[0])

    def bind(self, space: Space) -> BoundCost:
        structure = structure_of(space)
        rng = np.random.default_rng(len(structure))
        columns = [c for c in range(len(structure)) if not structure.floats[c]]
        scopes = [(c,) for c in columns] + list(itertools.pairwise(columns))
        terms = [Term(scope, rng.random(structure.shape(scope))) for scope in scopes]
        return TableCost(self, space, CostTable(0.0, terms))


def feasible_rows(constraints: BoundConstraints) -> int:
    """How many rows of the space are allowed."""
    return sum(int(constraints.mask(rows).sum()) for rows in constraints.space.enumerate())


def sometimes(value: float, every: int) -> Callable[[Rows], Scores]:
    """Scores of which the first, and every so-many-th, is `value`."""
    calls = iter(range(10**9))

    def score(rows: Rows) -> Scores:
        scores = example_scores(rows)
        return np.full_like(scores, value) if next(calls) % every == 0 else scores

    return score


def global_state() -> tuple[Any, ...]:
    """The states of all global random generators."""
    legacy = repr(np.random.get_state())
    return random.getstate(), legacy, bytes(torch.get_rng_state().tolist())


@contextlib.contextmanager
def other_global_state() -> Iterator[None]:
    """Global random generators are in another state within."""
    python, legacy, state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(98765)
    np.random.seed(98765)
    torch.manual_seed(98765)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(state)
