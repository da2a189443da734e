"""Runs that propose one row after another."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Run

if TYPE_CHECKING:
    from symnas.searching.problem import Problem


class SequentialRun(Run):
    """A run given by its next proposal: asking for n is asking n times for one.

    Subclasses write `next` and `tell`. What `next` returns may depend on `problem.seed`,
    `problem.count`, what was proposed and what was told, and on nothing else.

    Attributes:
        problem: what is being solved.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abc.abstractmethod
    def next(self) -> NDArray[np.int32]:
        """The next proposal, feasible and fresh: `(1, columns)`, or `(0, columns)` at the end."""

    def ask(self, n: int) -> NDArray[np.int32]:
        """Up to `n` proposals: `(<= n, columns)`, fewer at the end of the space."""
        proposals = [np.empty((0, len(self.problem.space.columns)), np.int32)]
        for _ in range(n):
            row = self.next()
            if not len(row):
                break
            proposals.append(self.problem.propose(row))
        return proposals[1] if len(proposals) == 2 else np.concatenate(proposals)


def first_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first objective of `scores` `(n, objectives)`, with failures as the worst: `(n,)`.

    >>> first_scores(np.array([[0.5], [np.nan]])).tolist()
    [0.5, -inf]
    """
    first = scores[:, 0]
    return np.where(np.isnan(first), -np.inf, first)
