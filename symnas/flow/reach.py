"""The outer problem of a nested flow: rows that can be completed to feasible architectures."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound_constraints import BoundConstraints
from symnas.costs.constraints import Constraints
from symnas.errors import Infeasible
from symnas.flow.subproblem import Subproblem
from symnas.searching.objectives import Objective
from symnas.searching.problem import Problem
from symnas.searchspace.parts import Part
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]


class Outer(Part):
    """The part of the outer decisions; two of its rows are different even where the inner
    decisions at their first values would make the same network of both."""

    def key_of(self, row: list[int]) -> bytes:
        return self.row_key(row)


def outer_of(space: Space, inner: set[int]) -> Outer:
    """The part in which the columns of the inner levels stay at their first values.

    Raises:
        ValueError: an outer decision is made only for some values of an inner one.
    """
    for i, column in enumerate(space._compiled.columns):
        for parent in {p for clause in column.condition for p in clause}:
            if i not in inner and parent in inner:
                raise ValueError(
                    f"nested: {column.path!r} is made only for some values of "
                    f"{space.columns[parent]!r}, which is on a level further in. Put both on one "
                    "level, or the latter on the outer one."
                )
    part = Outer.of(space, dict.fromkeys(inner, (0,)))
    part.valid = None  # a question to whole architectures
    return part  # type: ignore[return-value]


def inner_of(space: Space, outer: set[int], row: Rows) -> Part:
    """The part in which the outer decisions are those of a row of the space."""
    return Part.of(space, {c: (int(row[c]),) for c in outer if row[c] >= 0})


def outer_problem(problem: Problem, part: Part, outer: set[int], seed: int) -> Problem:
    """The problem of the outermost level: one number for each of its rows, larger is better."""
    names = " and ".join(objective.name for objective in problem.objectives)
    constraints = None
    if problem.constraints is not None or problem.space.valid is not None:
        constraints = _Completable(problem, part, outer)
    return Problem(part, (Objective(names, "maximize"),), constraints, seed)


@attrs.frozen(eq=False)
class _Check:
    """Whether anything feasible is left once the outer decisions are made; asked once a row."""

    problem: Problem
    part: Part
    outer: set[int]
    known: dict[bytes, bool] = attrs.field(factory=dict)

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        lifted = self.part.lift(rows)
        return np.array([self._holds(row) for row in lifted], bool)

    def _holds(self, row: Rows) -> bool:
        key = row.tobytes()
        if key not in self.known:
            self.known[key] = _possible(self.problem, inner_of(self.problem.space, self.outer, row))
        return self.known[key]

    def excess(self, rows: Rows) -> NDArray[np.float64]:
        return (~self.mask(rows)).astype(np.float64)

    def __str__(self) -> str:
        return "something feasible is left"


def _possible(problem: Problem, part: Part) -> bool:
    inner = Subproblem(problem, part, problem.seed)
    try:
        if inner.constraints is not None:
            inner.constraints.check_possible(seed=problem.seed)
        else:
            return bool(part.is_valid(part.sample(256, problem.seed)).any())
    except Infeasible:
        return False
    return True


class _Completable(BoundConstraints):
    """Constraints on the outer rows of a nested flow."""

    def __init__(self, problem: Problem, part: Part, outer: set[int]) -> None:
        super().__init__(Constraints(), part)
        checks: Any = (_Check(problem, part, outer),)
        self.checks = checks
        self.dear = True
