"""Every algorithm, through the same laws."""

from __future__ import annotations

import numpy as np
import pyglove as pg
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas.testing import algorithm_laws, example_spaces

_evolution = pg.evolution.regularized_evolution(
    pg.evolution.mutators.Uniform(seed=1), population_size=6, tournament_size=3, seed=1
)
_some = {
    name: space
    for name, space in example_spaces().items()
    if name in ("conditional", "repeated", "subset", "float")
}
_two = {name: _some[name] for name in ("subset", "conditional")}
# PyGlove proposes slowly, is seeded by itself, and prints what Python cannot read.
_pyglove = {"stochastic": False, "names": None, "trials": 8}

ALGORITHMS = {
    "random": (alg.RandomSearch(), {}),
    "random architectures": (alg.RandomSearch("architectures"), {}),
    "regularized evolution": (alg.RegularizedEvolution(6, 3), {}),
    "regularized evolution, two mutations": (alg.RegularizedEvolution(4, 2, mutations=2), {}),
    "local search": (alg.LocalSearch(3), {}),
    "local search, best": (alg.LocalSearch(2, move="best"), {}),
    "grid": (alg.GridSearch(levels=3), {"stochastic": False}),
    "pyglove random": (alg.PyGlove(pg.geno.Random(seed=1), max_attempts=100), {**_pyglove, "spaces": _some}),
    "pyglove sweeping": (alg.PyGlove(pg.geno.Sweeping()), {**_pyglove, "spaces": _two}),
    "pyglove evolution": (
        alg.PyGlove(_evolution, max_attempts=50),
        {**_pyglove, "spaces": _two, "exhaustive": False},
    ),
}
LAWS = {
    f"{name}: {law}": check
    for name, (algorithm, options) in ALGORITHMS.items()
    for law, check in algorithm_laws(algorithm, **{"names": {}, **options}).items()
}


@pytest.mark.filterwarnings("ignore:PyGlove. Evolution proposed only")
@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    LAWS[law]()


# The suite itself: each of these breaks one law, and is caught at it. ---------------------------


@attrs.frozen
class Broken(sn.Algorithm):
    how: str

    def start(self, problem):
        return BrokenRun(self.how, problem)


class BrokenRun(SequentialRun):
    def __init__(self, how, problem):
        super().__init__(problem)
        self.how, self.asked, self.told = how, 0, []

    def next(self):
        problem, key = self.problem, [self.problem.count]
        self.asked += 1
        if self.how == "repeats" and problem.count % 5 == 4:
            return problem.space.sample(1, seed=0)
        if self.how == "ignores constraints":
            rows = problem.space.sample(200, seed=problem.count)
            free = sn.Problem(problem.space)
            free.propose(np.array(self.told).reshape(-1, len(problem.space)))
            return rows[free.fresh(rows)][:1]
        if self.how == "stops early" and problem.count > 9:
            return problem.sample(0, 0)
        if self.how == "counts its own asks":
            key = [self.asked]
        if self.how == "uses a global generator":
            key.append(random.randrange(10**6))
        if self.how == "keeps what it is lent":
            key.append(int(np.sum(self.told)) % 1000 + 1000)
        if self.how == "prints":
            print("asked")
        if self.how == "ignores the seed":
            return sn.Problem(problem.space).mutate(problem.sample(1, 0), 0) if False else self.fixed()
        return problem.sample(1, tuple(key))

    def tell(self, rows, scores):
        self.told.extend(rows)
        if self.how == "fails on failures" and np.isnan(scores).any():
            raise ValueError("NaN")
