"""Neural Predictor: random architectures, a predictor fitted to them, and then its favourites.

Wen, Liu, Li, Chen, Bender and Kindermans 2019, "Neural Predictor for Neural Architecture Search"
(arXiv 1912.00848), section 3.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.predictors.base import Fitted, Predictor
from symnas.predictors.gcn import GCN
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun
from symnas.searchspace.space import seed_of

# Pools that are ranked before the rest is random. Not a number of pools with nothing new: in a
# search that is continued, all that were proposed from have nothing new.
MOST_POOLS = 8


def _is_predictor(instance: object, attribute: object, value: object) -> None:
    if not isinstance(value, Predictor):
        raise TypeError(
            f"NeuralPredictor: the value of `predictor` ({value!r}) must be a predictor, such as "
            "sn.predictors.GCN()."
        )


@attrs.frozen
class NeuralPredictor(Algorithm):
    """A predictor is fitted to random architectures; then those follow that it predicts to be best.

    Limits on costs come first: what is drawn keeps them, and the predictor sees nothing else. All
    results count, those of the random architectures too. In a space of up to `pool` architectures
    all are ranked. While the last of the first `initial` results are awaited, nothing is proposed.

    Args:
        initial: random architectures, N in the paper (172 on NAS-Bench-101, 119 on ImageNet).
        pool: random architectures that the predictor ranks. When all of them have been proposed,
            others are drawn, seven times.
        predictor: what is fitted; larger results are better.
        rounds: how often it is fitted; once in the paper. Each later time to all results so far.
        top: proposals from a ranking before the next round; those of the last one go on.

    Raises:
        TypeError: `predictor` is none.
        ValueError: a number is below 1; a predictor needs 2 results.

    >>> import symnas as sn
    >>> from symnas import algorithms as alg
    >>> space = sn.Space([sn.oneof([1, 2, 3, 4]) for _ in range(4)])
    >>> problem = sn.Problem(space, [sn.Objective("sum", "maximize")])
    >>> run = NeuralPredictor(24, predictor=GCN(epochs=60, learning_rate=1e-2)).start(problem)
    >>> for _ in range(30):
    ...     rows = run.ask(1)
    ...     run.tell(rows, rows.sum(axis=1, keepdims=True).astype(float))
    >>> int(rows.sum()) > 8  # of 12; a random one has 6
    True
    """

    initial: int = attrs.field(default=172, validator=at_least(2))
    pool: int = attrs.field(default=100_000, validator=at_least(1))
    predictor: Predictor = attrs.field(factory=GCN, validator=_is_predictor)
    rounds: int = attrs.field(default=1, validator=at_least(1), kw_only=True)
    top: int = attrs.field(default=20, validator=at_least(1), kw_only=True)

    def start(self, problem: Problem) -> Run:
        return _Ranked(self, problem)


class _Ranked(SequentialRun):
    """The ranking follows from how many results were told, and from those; the rest is a cache."""

    def __init__(self, algorithm: NeuralPredictor, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._rows: list[NDArray[np.int32]] = []  # told, in order
        self._scores: list[float] = []
        self._round = -1
        self._pool = -1
        self._fitted: Fitted | None = None
        self._ranking = np.empty((0, len(problem.space)), np.int32)
        self._at = 0

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        self._rows.extend(rows.copy())
        self._scores.extend(scores[:, 0].tolist())

    def next(self) -> NDArray[np.int32]:
        problem, told = self.problem, len(self._scores)
        if told < self._algorithm.initial:
            if problem.count < self._algorithm.initial:
                return problem.sample(1, (problem.count,))
            return self._ranking[:0]  # the loop asks again when there are more results
        current = min((told - self._algorithm.initial) // self._algorithm.top, self._last)
        if current != self._round:
            self._round, self._pool = current, -1
            self._fit()
        while (row := self._best()) is None:
            if not self._rank():
                return problem.sample(1, (problem.count,))
        return row

    @property
    def _last(self) -> int:
        return self._algorithm.rounds - 1

    def _fit(self) -> None:
        known = self._algorithm.initial + self._round * self._algorithm.top
        scores = np.array(self._scores[:known])
        worked = np.isfinite(scores)
        self._ranking, self._at = self._ranking[:0], 0
        self._fitted = None
        if worked.sum() >= 2:
            rows = np.array(self._rows[:known])[worked]
            seed = seed_of((self.problem.seed, self._round)) % 2**31
            self._fitted = self._algorithm.predictor.fit(
                self.problem.space, rows, scores[worked], seed
            )

    def _best(self) -> NDArray[np.int32] | None:
        """The first of the ranking that is feasible and was not proposed yet."""
        while self._at < len(self._ranking):
            row = self._ranking[self._at : self._at + 1]
            self._at += 1
            if self.problem.fresh(row)[0]:
                return row
        return None

    def _rank(self) -> bool:
        """Ranks another pool, if there is one."""
        self._pool += 1
        if self._fitted is None or self._pool >= (1 if self._is_whole else MOST_POOLS):
            return False
        rows = self._candidates()
        order = np.argsort(-self._fitted.predict(rows), kind="stable")
        self._ranking, self._at = rows[order], 0
        return True

    @property
    def _is_whole(self) -> bool:
        """Whether a pool has the whole space."""
        space = self.problem.space
        return not space.has_floats and space.size <= self._algorithm.pool

    def _candidates(self) -> NDArray[np.int32]:
        """Rows in random order. What is dear to check is checked when its turn to be proposed comes."""
        space, constraints = self.problem.space, self.problem.constraints
        seed = (self.problem.seed, self._round, self._pool)
        if self._is_whole:
            rows = np.concatenate(list(space.enumerate()))
            rows = rows[np.random.default_rng(seed).permutation(len(rows))]
        elif constraints is None:
            rows = space.sample(self._algorithm.pool, seed)
        else:
            rows = constraints.draw(self._algorithm.pool, seed)
        if constraints is not None and not constraints.dear:
            rows = rows[constraints.mask(rows)]
        return rows
