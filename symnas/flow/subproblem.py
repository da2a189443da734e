"""The problem of one stage: the whole one on a part of its space."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound_part import on_part
from symnas.searching.problem import Problem
from symnas.searchspace.parts import Part
from symnas.searchspace.space import seed_of

Rows = NDArray[np.int32]


def seed_at(problem: Problem, *path: int) -> int:
    """The seed of a stage: 31 bits, from the problem's and its place in the flow only."""
    return seed_of((problem.seed, *path)) % 2**31


class Subproblem(Problem):
    """A problem on a part of another's space. What is proposed to one of them, the other knows.

    Args:
        whole: the other problem, with its constraints, costs and reward.
        part: of its space.
        seed: of the stage.
    """

    def __init__(self, whole: Problem, part: Part, seed: int) -> None:
        costs = {name: on_part(cost, part) for name, cost in whole.costs.items()}
        constraints = None if whole.constraints is None else whole.constraints.on(part, costs)
        super().__init__(part, whole.objectives, constraints, seed, whole.reward, costs)
        self.whole, self.part = whole, part
        # A part has its parent's keys, so both can share what is known to have been proposed.
        self._proposed = whole._proposed

    def propose(self, rows: Any, budget: float | None = None) -> Rows:
        """Marks rows as proposed, here and in the whole problem."""
        proposed = self.note(rows, budget)
        self.whole.propose(self.part.lift(proposed), budget)
        return proposed

    def note(self, rows: Any, budget: float | None = None) -> Rows:
        """Marks rows as proposed that the whole problem knows of."""
        if self.budget is not None and self.whole.budget is None:
            self.whole.budget = self.budget  # an algorithm of several fidelities has set it
        return super().propose(rows, budget)
