"""Successive halving: many architectures at a low budget, the best of them at the next, and so on.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization" (arXiv 1502.07943), section 3; with another share than half as in Li et al. 2020
(arXiv 1810.05934), Algorithm 1.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Run
from symnas.searching.checks import at_least
from symnas.searching.fidelities import Fidelities, FidelitiesRun, Result
from symnas.searching.problem import Problem

_ROUNDING = 1e-9  # 0.29 * 100 is a little below 29


def _check_keep(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and (not isinstance(value, int | float) or not 0 < value < 1):
        raise ValueError(
            f"SuccessiveHalving: the value of `keep` ({value!r}) must be between 0 and 1, or None."
        )


@attrs.frozen
class SuccessiveHalving(Fidelities):
    """Evaluates `size` architectures at the lowest budget, the best `keep` of them at the next...

    Then the next bracket begins, with what the wrapped algorithm proposes by then. A rung is
    promoted from when all its results are there; workers that would wait for them begin the next
    bracket. Failed trials are never promoted.

    The papers draw the architectures of a bracket at random, which is
    `SuccessiveHalving(RandomSearch(), ...)`, and go on training from a checkpoint, where here a
    promoted architecture is trained anew. That brackets follow one another is ours, as is that a
    last one is halved as it is when the space has been gone through.

    Args:
        algorithm: proposes architectures. It is told their results at the lowest budget, each once.
        budgets: of the trials, increasing, in the task's unit: epochs for `sn.Task`.
        keep: the share of a rung that is promoted, rounded down. None: that of its budget in the
            next one, so that about as much is spent at each, as in the papers.
        size: how many architectures a bracket begins with. None: as many as it takes that one
            reaches the highest budget.

    Raises:
        ValueError: the budgets do not increase; `keep` is not between 0 and 1; none of `size`
            architectures would reach the highest budget.

    >>> from symnas import algorithms as alg
    >>> SuccessiveHalving(alg.RandomSearch(), budgets=(3, 12, 48)).sizes
    (16, 4, 1)
    >>> SuccessiveHalving(alg.RandomSearch(), budgets=(3, 12), keep=1/3, size=9).sizes
    (9, 3)
    """

    keep: float | None = attrs.field(default=None, validator=_check_keep)
    size: int | None = attrs.field(default=None, validator=at_least(1, optional=True), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.sizes[-1]:
            raise ValueError(
                f"SuccessiveHalving: of `size` ({self.size}) architectures none would reach the "
                f"highest of the `budgets` {self.budgets}: of a bracket, {self.sizes} are evaluated "
                f"at each. Raise `size` or `keep` ({self.keep}), or drop budgets."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many architectures of a bracket are evaluated at each budget; their sum in trials."""
        size = self.size
        if size is None:
            size = 1
            for share in reversed(self._shares):
                size = math.ceil(size / share - _ROUNDING)
        return self.sizes_of(size)

    def sizes_of(self, size: int) -> tuple[int, ...]:
        """The same for a bracket of another size."""
        sizes = [size]
        for share in self._shares:
            sizes.append(int(sizes[-1] * share + _ROUNDING))
        return tuple(sizes)

    @property
    def _shares(self) -> tuple[float, ...]:
        return tuple(self.keep or low / high for low, high in itertools.pairwise(self.budgets))

    def start(self, problem: Problem) -> Run:
        return _Run(self, problem)


class _Bracket:
    """The architectures of one bracket: who is at which rung, as far as that is known."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.results: list[dict[bytes, Result]] = [{} for _ in sizes]
        self.done = False

    def next(self, run: FidelitiesRun) -> tuple[NDArray[np.int32], int] | None:
        """The next promotion; where there is none, a result is waited for, or all is done."""
        best = sorted(self.results[0].values(), key=lambda result: result.rank)
        if len(best) < self.sizes[0]:
            return None
        for rung, size in list(enumerate(self.sizes))[1:]:
            best = [result for result in best if result.score > -np.inf][:size]
            for result in best:
                if not run.promoted(result, rung):
                    return result.row, rung
            results = self.results[rung]
            if any(result.key not in results for result in best):
                return None
            best = sorted((results[r.key] for r in best), key=lambda result: result.rank)
        self.done = True
        return None


class _Run(FidelitiesRun):
    """Brackets by the order in which their architectures were first proposed."""

    def __init__(self, algorithm: SuccessiveHalving, problem: Problem) -> None:
        super().__init__(algorithm, problem)
        self._algorithm, self._sizes = algorithm, algorithm.sizes
        self._last = _Bracket(self._sizes)
        self._open = [self._last]
        self._of: dict[bytes, _Bracket] = {}  # an architecture's

    def take(self, rung: int, result: Result) -> None:
        if rung == 0:
            if len(self._last.results[0]) == self._sizes[0]:
                self._last = _Bracket(self._sizes)
                self._open.append(self._last)
            self._of[result.key] = self._last
        bracket = self._of.get(result.key)
        if bracket is not None:
            bracket.results[rung][result.key] = result

    def promotion(self, over: bool) -> tuple[NDArray[np.int32], int] | None:
        if over and len(self._of) == self.problem.count:  # all have been told
            sizes = self._algorithm.sizes_of(len(self._last.results[0]))
            self._last.sizes = tuple(max(1, size) for size in sizes)
        for bracket in list(self._open):
            found = bracket.next(self)
            if found is not None:
                return found
            if bracket.done:
                self._open.remove(bracket)
        return None
