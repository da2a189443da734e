"""PyGlove's regularized evolution, proposing and fed as in `pg.sample`.

D. Peng et al., "PyGlove", NeurIPS 2020, arXiv:2101.08809. `symnas.algorithms.PyGlove` runs the same
generators without repetitions and within limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyglove as pg
from numpy.typing import NDArray

from symnas.searching.problem import Problem


def start(kind: str, problem: Problem, options: Mapping[str, Any]) -> PyGloveRun:
    """A run, all of whose randomness follows from the problem's seed.

    Raises:
        ValueError: there are several objectives, and the algorithm takes one.
    """
    make = pg.evolution.nsga2 if kind == "nsga2" else pg.evolution.regularized_evolution
    mutator = pg.evolution.mutators.Uniform(seed=problem.seed)
    generator = make(mutator, seed=problem.seed, **options)
    if len(problem.objectives) > 1 and not generator.multi_objective:
        raise ValueError(
            "PyGlove's regularized evolution takes one objective; pyglove-nsga2 several."
        )
    return PyGloveRun(generator, problem)


class PyGloveRun:
    """Asks and feeds a generator; infeasible and failed proposals are skipped, not fed."""

    def __init__(self, generator: Any, problem: Problem) -> None:
        self.problem, self.generator = problem, generator
        generator.setup(problem.space.dna_spec())
        self.open: deque[Any] = deque()

    def ask(self, n: int) -> NDArray[np.int32]:
        """`n` proposals; fewer where the generator ends."""
        rows = []
        for _ in range(n):
            try:
                dna = self.generator.propose()
            except StopIteration:
                break
            self.open.append(dna)
            rows.append(self.problem.space.from_dna(dna))
        return np.array(rows, np.int32).reshape(len(rows), len(self.problem.space))

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Results in the order of proposal."""
        allowed = self.problem.feasible(rows)
        for score, feasible in zip(scores, allowed, strict=True):
            dna = self.open.popleft()
            if feasible and np.isfinite(score).all():
                several = self.generator.multi_objective
                self.generator.feedback(dna, tuple(score.tolist()) if several else float(score[0]))
