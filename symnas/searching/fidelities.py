"""Search at several fidelities: an algorithm proposes, and the best go on to higher budgets.

A trial's budget is what its evaluation may spend, in the task's unit: epochs, for `sn.Task`. The
budgets of an algorithm are its *rungs*. The algorithm that is wrapped proposes what is evaluated
at the lowest; what is promoted is proposed again, at the next.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run

if TYPE_CHECKING:
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]


def _budgets(value: Any) -> Any:
    """A tuple, with whole numbers as such, so that equal budgets print alike."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return tuple(int(b) if isinstance(b, float) and b.is_integer() else b for b in value)


def _check_budgets(instance: Any, attribute: Any, value: Any) -> None:
    where = f"{type(instance).__name__}: the value of `budgets` ({value!r})"
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{where} must be a tuple of numbers, such as (3, 12).")
    for budget in value:
        number = isinstance(budget, int | float) and not isinstance(budget, bool)
        if not number or not 0 < budget < math.inf:
            raise ValueError(f"{where} must hold finite numbers above 0; {budget!r} is none.")
    for low, high in itertools.pairwise(value):
        if low >= high:
            raise ValueError(f"{where} must increase; {high} comes after {low}.")


def _check_algorithm(instance: Any, attribute: Any, value: Any) -> None:
    from symnas.oneshot.algorithm import OneShot

    where = f"{type(instance).__name__}: the value of `algorithm` ({value!r})"
    if not isinstance(value, Algorithm):
        raise TypeError(f"{where} must be an algorithm, such as alg.RegularizedEvolution().")
    if isinstance(value, OneShot):
        raise TypeError(
            f"{where} trains one supernet instead of many networks, so there are no budgets to "
            "give them. Pass one that proposes architectures, such as alg.RegularizedEvolution()."
        )
    if value.budgets:
        raise TypeError(f"{where} has budgets of its own. Pass the algorithm that it wraps.")


@attrs.frozen
class Fidelities(Algorithm):
    """Wraps an algorithm, and promotes what does well to higher budgets.

    Subclasses are frozen attrs classes that say what is promoted: their `start` returns a
    `FidelitiesRun`.

    Args:
        algorithm: proposes architectures. It is told their results at the lowest budget, each
            once: so all that it compares was measured alike.
        budgets: of the trials, increasing, in the task's unit.
    """

    algorithm: Algorithm = attrs.field(validator=_check_algorithm)
    budgets: tuple[float, ...] = attrs.field(converter=_budgets, validator=_check_budgets)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        self.algorithm.check(problem)


@attrs.frozen(eq=False)
class Result:
    """What was measured of an architecture at one budget; a failure's score is -inf."""

    row: Rows  # (columns,)
    key: bytes
    score: float
    order: int  # of being told

    @property
    def rank(self) -> tuple[float, int]:
        """Sorts the best first; of equal ones that which was proposed first."""
        return -self.score, self.order


class FidelitiesRun(Run):
    """Promotes where it can, and else asks the wrapped algorithm for something new.

    Which budget a result is of follows from the problem, which knows at what budgets its
    architecture was proposed. Results at other budgets than the rungs are left aside.
    """

    def __init__(self, algorithm: Fidelities, problem: Problem) -> None:
        self.problem = problem
        self.budgets = algorithm.budgets
        problem.budget = self.budgets[0]
        self._inner = algorithm.algorithm.start(problem)
        self._told: Counter[bytes] = Counter()
        self._order = 0

    @abc.abstractmethod
    def take(self, rung: int, result: Result) -> None:
        """Learns a result at a rung, from 0."""

    @abc.abstractmethod
    def promotion(self, over: bool) -> tuple[Rows, int] | None:
        """An architecture `(columns,)` and the rung that it is promoted to, if there is one.

        Args:
            over: nothing new is left to propose, so nobody has to be waited for.
        """

    def promoted(self, result: Result, rung: int) -> bool:
        """Whether the architecture was proposed at the rung already."""
        return self.budgets[rung] in self.problem.budgets_of(result.row)

    def ask(self, n: int) -> Rows:
        asked = [np.empty((0, len(self.problem.space.columns)), np.int32)]
        for _ in range(n):
            rows = self._next()
            if not len(rows):
                break
            asked.append(rows)
        return np.concatenate(asked)

    def _next(self) -> Rows:
        found = self.promotion(over=False)
        if found is None:
            rows = self._inner.ask(1)
            if len(rows):
                return rows
            found = self.promotion(over=True)
            if found is None:
                return rows
        row, rung = found
        return self.problem.propose(row[None], self.budgets[rung])

    def tell(self, rows: Rows, scores: NDArray[np.float64]) -> None:
        for row, score in zip(rows, scores, strict=True):
            key = self.problem.space.key_of(row.tolist())
            # An architecture is promoted when it was told: so results come in the order of budgets.
            budgets = self.problem.budgets_of(row)[self._told[key] :]
            self._told[key] += 1
            if not budgets or budgets[0] not in self.budgets:
                continue
            rung = self.budgets.index(budgets[0])
            if rung == 0:
                self._inner.tell(row[None].copy(), score[None].copy())
            value = -math.inf if math.isnan(score[0]) else float(score[0])
            self.take(rung, Result(row.copy(), key, value, self._order))
            self._order += 1
