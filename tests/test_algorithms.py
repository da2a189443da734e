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
_two = {name: example_spaces()[name] for name in ("flat", "conditional")}
# PyGlove proposes slowly, is seeded by itself, and prints what Python cannot read.
_pyglove = {"stochastic": False, "names": None, "trials": 10}

ALGORITHMS = {
    "random": (alg.RandomSearch(), {}),
    "random architectures": (alg.RandomSearch("architectures"), {}),
    "regularized evolution": (alg.RegularizedEvolution(6, 3), {}),
    "regularized evolution, two mutations": (alg.RegularizedEvolution(4, 2, mutations=2), {}),
    "local search": (alg.LocalSearch(3), {}),
    "local search, best": (alg.LocalSearch(2, move="best"), {}),
    "grid": (alg.GridSearch(levels=3), {"stochastic": False}),
    "pyglove random": (alg.PyGlove(pg.geno.Random(seed=1), max_attempts=300), _pyglove),
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


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    LAWS[law]()
