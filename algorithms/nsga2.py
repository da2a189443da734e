"""NSGA-II: evolution towards all best compromises, one child at a time.

Deb, Pratap, Agarwal and Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm:
NSGA-II" (IEEE Transactions on Evolutionary Computation 6(2)), section III; in its steady-state
form, Durillo, Nebro, Luna and Alba 2009, "On the Effect of the Steady-State Selection Scheme in
Multi-Objective Genetic Algorithms" (EMO 2009).
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching import pareto
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least, number
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun


@attrs.frozen
class NSGA2(Algorithm):
    """Evolution for several objectives, by non-dominated fronts and crowding.

    The first proposals are random. Each later one is a child of winners of tournaments: a
    crossover of two, or one alone, and then a mutation of one decision. A tournament is won by
    the member of the best front, among equals by the one with most room around it. After every
    trial, the population loses its worst member by the same order; a failed trial is the worst.

    The paper replaces whole generations, with tournaments of two; that finds good compromises
    later. `population_size`, `tournament_size` and `initial_samples` were chosen by hypervolume
    within 500 trials, on tables that include NAS-Bench-201: see `benchmarks/hypervolume.py`.

    Args:
        population_size: N in the paper.
        tournament_size: how many members compete to be a parent; drawn with replacement.
        initial_samples: how many random architectures come first.
        crossover: the probability that a child has two parents.

    Raises:
        ValueError: a number is below 1, or `crossover` is not from 0 to 1.

    >>> from symnas import algorithms as alg
    >>> alg.NSGA2(population_size=50)
    NSGA2(population_size=50, tournament_size=5, initial_samples=10, crossover=0.5)
    """

    many_objectives: ClassVar[bool] = True

    population_size: int = attrs.field(default=20, validator=at_least(1))
    tournament_size: int = attrs.field(default=5, validator=at_least(1))
    initial_samples: int = attrs.field(default=10, validator=at_least(1), kw_only=True)
    crossover: float = attrs.field(default=0.5, validator=number(0, 1), kw_only=True)

    def start(self, problem: Problem) -> Run:
        return _Evolution(self, problem)


class _Evolution(SequentialRun):
    """The population follows from what was told alone, in order."""

    def __init__(self, algorithm: NSGA2, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._rows = np.empty((0, len(problem.space.columns)), np.int32)  # (<= N, columns)
        self._scores = np.empty((0, max(1, len(problem.objectives))))  # (<= N, objectives)
        self._places: NDArray[np.intp] | None = None

    def next(self) -> NDArray[np.int32]:
        problem, count = self.problem, self.problem.count
        if count < self._algorithm.initial_samples or not len(self._rows):
            return problem.sample(1, (count,))
        rng = np.random.default_rng((problem.seed, count))
        rows = self._winner(rng)
        if rng.random() < self._algorithm.crossover:
            rows = problem.space.crossover(rows, self._winner(rng), (problem.seed, count))
        children = problem.mutate(rows, (count,))
        return children if len(children) else problem.sample(1, (count,))

    def _winner(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """The best of a tournament: `(1, columns)`."""
        if self._places is None:
            self._places = pareto.places(self._scores)
        members = rng.integers(len(self._rows), size=self._algorithm.tournament_size)
        winner = members[self._places[members].argmax()]
        return self._rows[winner : winner + 1]

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        for row, score in zip(rows, scores, strict=True):
            self._rows = np.concatenate([self._rows, row[None]])
            self._scores = np.concatenate([self._scores, score[None]])
            if len(self._rows) > self._algorithm.population_size:
                worst = pareto.places(self._scores).argmin()
                self._rows = np.delete(self._rows, worst, axis=0)
                self._scores = np.delete(self._scores, worst, axis=0)
        self._places = None
