"""Regularized evolution: tournaments in a population from which the oldest is removed.

Real, Aggarwal, Huang and Le 2019, "Regularized Evolution for Image Classifier Architecture
Search" (arXiv 1802.01548), Algorithm 1 in section 3.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching import pareto
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun

# Tournaments are drawn for this many proposals at once: making a generator costs more than
# a whole trial otherwise does.
_BLOCK = 256


@attrs.frozen
class RegularizedEvolution(Algorithm):
    """Evolution by mutation alone, where age, not score, decides who dies.

    The first `population_size` proposals are random. Each later one is a mutation of the winner
    of a tournament: the best of `tournament_size` members, drawn with replacement from the last
    `population_size` trials. A failed trial enters as the worst.

    No architecture is proposed twice: mutations are drawn until one is new, and change more
    decisions at once where everything near the winner is known.

    With several objectives, the best of a tournament is the member of the best non-dominated
    front of the population, among equals the one with most room around it (as in `NSGA2`).

    Args:
        population_size: P in Algorithm 1. The paper searches with 100 members and tournaments
            of 25 over 20,000 trials; the defaults suit some hundred trials.
        tournament_size: S in Algorithm 1.
        mutations: how many times a parent is mutated to make a child.

    Raises:
        ValueError: `population_size` is smaller than `tournament_size`, or one is below 1.

    >>> from symnas import algorithms as alg
    >>> alg.RegularizedEvolution(population_size=100, tournament_size=25)
    RegularizedEvolution(population_size=100, tournament_size=25, mutations=1)
    """

    many_objectives: ClassVar[bool] = True

    population_size: int = attrs.field(default=30, validator=at_least(1))
    tournament_size: int = attrs.field(default=10, validator=at_least(1))
    mutations: int = attrs.field(default=1, validator=at_least(1), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.population_size < self.tournament_size:
            raise ValueError(
                f"RegularizedEvolution: the value of `population_size` ({self.population_size}) "
                f"must be no less than `tournament_size` ({self.tournament_size})."
            )

    def start(self, problem: Problem) -> Run:
        several = len(problem.objectives) > 1
        return _Compromises(self, problem) if several else _Evolution(self, problem)


class _Evolution(SequentialRun):
    """The population is a ring: the next trial told takes the place of the oldest."""

    def __init__(self, algorithm: RegularizedEvolution, problem: Problem) -> None:
        super().__init__(problem)
        self._size = size = algorithm.population_size
        self._tournament_size = algorithm.tournament_size
        self._mutations = algorithm.mutations
        self._rows = np.full((size, len(problem.space.columns)), -1, np.int32)  # (P, columns)
        self._scores = np.full(size, -np.inf)  # (P,)
        self._told = 0
        self._block = -1
        self._draws = np.empty((0, 0))  # (_BLOCK, S), uniform in [0, 1)

    def next(self) -> NDArray[np.int32]:
        count = self.problem.count
        if count < self._size or self._told == 0:
            return self.problem.sample(1, (count,))
        return self._child(count)

    def _child(self, count: int) -> NDArray[np.int32]:
        members = self._tournament(count)
        winner = members[self._scores[members].argmax()]
        rows = self._rows[winner : winner + 1]
        for step in range(1, self._mutations):
            rows = self.problem.space.mutate(rows, (self.problem.seed, count, step))
        rows = self.problem.mutate(rows, (count,))
        return rows if len(rows) else self.problem.sample(1, (count,))

    def _tournament(self, count: int) -> NDArray[np.intp]:
        """The places in the ring of `(S,)` members, drawn with replacement."""
        block, place = divmod(count, _BLOCK)
        if block != self._block:
            random = np.random.default_rng((self.problem.seed, block))
            self._draws = random.random((_BLOCK, self._tournament_size))
            self._block = block
        alive = min(self._told, self._size)
        places: NDArray[np.intp] = (self._draws[place] * alive).astype(np.intp)
        return places

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        for row, score in zip(rows, scores[:, 0].tolist(), strict=True):
            place = self._told % self._size
            self._rows[place] = row
            self._scores[place] = -np.inf if score != score else score  # NaN: failed
            self._told += 1


class _Compromises(_Evolution):
    """The same ring, whose scores are places among the living, renewed with every trial told."""

    def __init__(self, algorithm: RegularizedEvolution, problem: Problem) -> None:
        super().__init__(algorithm, problem)
        self._told_scores = np.empty((0, len(problem.objectives)))  # (<= P, objectives), by age

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        super().tell(rows, scores)
        told = np.concatenate([self._told_scores, scores])[-self._size :]
        first = self._told - len(told)
        self._scores[np.arange(first, self._told) % self._size] = pareto.places(told)
        self._told_scores = told
