"""ASHA: asynchronous successive halving, which promotes whatever is among the best of its rung.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar 2020, "A System for
Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), Algorithm 2 in section 3.2.
"""

from __future__ import annotations

import bisect
import itertools

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Run
from symnas.searching.checks import at_least
from symnas.searching.fidelities import Fidelities, FidelitiesRun, Result
from symnas.searching.problem import Problem


@attrs.frozen
class ASHA(Fidelities):
    """Promotes an architecture as soon as it is in the top 1/`reduction` of its rung.

    Whenever a worker is free, the highest rung that has such an architecture, not yet promoted,
    promotes its best one; where none has, the wrapped algorithm proposes a new one. So nobody
    waits, and a few architectures are promoted too early. Failed trials are never promoted.

    The paper draws new architectures at random, which is `ASHA(RandomSearch(), ...)`, and goes on
    training from a checkpoint, where here a promoted architecture is trained anew. What follows
    when a space has been gone through is ours: the best of each rung goes on to the top.

    Args:
        algorithm: proposes architectures. It is told their results at the lowest budget, each once.
        budgets: of the trials, increasing, in the task's unit: epochs for `sn.Task`.
        reduction: eta in Algorithm 2. None: how many times a budget is in the next (at least 2), so
            that about as much is spent at each, as in the paper, whose budgets grow by eta.

    Raises:
        ValueError: the budgets do not increase, or `reduction` is below 2.

    >>> from symnas import algorithms as alg
    >>> ASHA(alg.RandomSearch(), budgets=(1, 3, 12)).reductions
    (3, 4)
    """

    reduction: int | None = attrs.field(default=None, validator=at_least(2, optional=True))

    @property
    def reductions(self) -> tuple[int, ...]:
        """Of so many architectures at each budget but the highest, one is promoted."""
        return tuple(
            self.reduction or max(2, int(high / low + 1e-9))
            for low, high in itertools.pairwise(self.budgets)
        )

    def start(self, problem: Problem) -> Run:
        return _Run(self, problem)


class _Run(FidelitiesRun):
    """The rungs hold all results so far, the best first."""

    def __init__(self, algorithm: ASHA, problem: Problem) -> None:
        super().__init__(algorithm, problem)
        self._reductions = algorithm.reductions
        self._rungs: list[list[Result]] = [[] for _ in self.budgets]
        self._gone: list[set[bytes]] = [set() for _ in self.budgets]  # known to be promoted

    def take(self, rung: int, result: Result) -> None:
        bisect.insort(self._rungs[rung], result, key=lambda known: known.rank)

    def promotion(self, over: bool) -> tuple[NDArray[np.int32], int] | None:
        for rung in reversed(range(len(self.budgets) - 1)):
            results, gone = self._rungs[rung], self._gone[rung]
            top = len(results) // self._reductions[rung]
            for result in results[: max(1, top) if over else top]:
                if result.key in gone or result.score == -np.inf:
                    continue
                if not self.promoted(result, rung + 1):
                    return result.row, rung + 1
                gone.add(result.key)
        return None
