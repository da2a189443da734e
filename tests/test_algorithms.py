"""Every algorithm, through the same laws."""

from __future__ import annotations

import random

import attrs
import numpy as np
import pyglove as pg
import pytest

import symnas as sn
from symnas import algorithms as alg
from symnas.searching.sequential import SequentialRun
from symnas.testing import algorithm_laws, example_spaces
from symnas.testing.driving import drive

_evolution = pg.evolution.regularized_evolution(
    pg.evolution.mutators.Uniform(seed=1), population_size=3, tournament_size=2, seed=1
)
_some = {
    name: space
    for name, space in example_spaces().items()
    if name in ("conditional", "repeated", "subset", "float")
}
_two = {name: _some[name] for name in ("subset", "conditional")}
# PyGlove proposes slowly, is seeded by itself, and prints what Python cannot read.
_pyglove = {"stochastic": False, "names": None, "trials": 6}

ALGORITHMS = {
    "random": (alg.RandomSearch(), {}),
    "random architectures": (alg.RandomSearch("architectures"), {}),
    "regularized evolution": (alg.RegularizedEvolution(6, 3), {}),
    "regularized evolution, two mutations": (alg.RegularizedEvolution(4, 2, mutations=2), {}),
    "local search": (alg.LocalSearch(3), {}),
    "local search, best": (alg.LocalSearch(2, move="best"), {}),
    "nsga2": (alg.NSGA2(6, 3, initial_samples=4), {}),
    "nsga2, mutation alone": (alg.NSGA2(5, 2, crossover=0.0), {}),
    "bayesian optimization": (
        alg.BayesianOptimization(4),
        {
            "spaces": _some,
            "trials": 12,
            "names": {"GaussianProcess": sn.predictors.GaussianProcess},
        },
    ),
    "grid": (alg.GridSearch(levels=3), {"stochastic": False}),
    "pyglove random": (
        alg.PyGlove(pg.geno.Random(seed=1), max_attempts=100),
        {**_pyglove, "spaces": _some},
    ),
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


# The suite itself: each of these breaks one law, and is caught at it.


@attrs.frozen
class Broken(sn.Algorithm):
    how: str

    def start(self, problem):
        return BrokenRun(self.how, problem)


class BrokenRun(SequentialRun):
    def __init__(self, how, problem):
        super().__init__(problem)
        self.how, self.asked, self.told = how, 0, []

    def ask(self, n):
        if self.how == "asks for several otherwise" and n > 1:
            return self.problem.propose(self.problem.sample(n, 0))
        if self.how == "proposes in secret":
            return self.next()[:n]
        return super().ask(n)

    def next(self):
        problem, key = self.problem, [self.problem.count]
        self.asked += 1
        if self.how == "repeats" and problem.count % 5 == 4:
            return problem.space.sample(1, seed=0)
        if self.how == "ignores constraints":
            free = sn.Problem(problem.space)
            free.propose(np.array(self.told).reshape(-1, len(problem.space)))
            return free.sample(1, problem.count)
        if self.how == "stops early" and problem.count > 5:
            return problem.sample(0, 0)
        if self.how == "ignores the seed":
            return next(r for r in problem.space.enumerate(1) if problem.fresh(r)[0])
        if self.how == "counts its own asks":
            key.append(self.asked)
        if self.how == "uses a global generator":
            key.append(random.randrange(10**6))
        if self.how == "keeps what it is lent":
            key.append(int(abs(np.sum(self.told))))
        if self.how == "prints":
            print("asked")
        return problem.sample(1, tuple(key))

    def tell(self, rows, scores):
        self.told.extend(rows)
        assert self.how != "fails on failures" or np.isfinite(scores).all()


@attrs.define
class Loose(sn.Algorithm):
    population: int = 3

    def start(self, problem):
        return BrokenRun("", problem)


@pytest.mark.parametrize(
    ("how", "law"),
    [
        ("repeats", "distinct"),
        ("proposes in secret", "distinct"),
        ("ignores constraints", "constraints are kept"),
        ("stops early", "ends when everything was proposed"),
        ("ignores the seed", "the seed decides"),
        ("asks for several otherwise", "asking for several is asking several times"),
        ("counts its own asks", "recovered by telling"),
        ("counts its own asks", "recovered with open trials"),
        ("keeps what it is lent", "recovered by telling"),
        ("fails on failures", "failures are survived"),
        ("uses a global generator", "no global randomness"),
        ("prints", "no input or output"),
    ],
)
def test_a_broken_algorithm_is_caught(how, law):
    spaces = {"flat": example_spaces()["flat"]}
    assert_law = algorithm_laws(Broken(how), spaces=spaces)[law]
    with pytest.raises(AssertionError):
        assert_law()


def test_a_value_that_can_change_is_caught():
    with pytest.raises(AssertionError, match="hash"):
        algorithm_laws(Loose())["a frozen, comparable, hashable, printable value"]()


# What the laws do not say. ----------------------------------------------------------------------


def problem(space, seed=0, constraints=None):
    return sn.Problem(space, [sn.Objective("score", "maximize")], constraints, seed)


def test_evolution_mutates_the_best_of_the_youngest():
    """With tournaments over everyone: a child of the best of the last P, however good the dead."""
    space = sn.Space([sn.oneof(list("abcdefg")) for _ in range(6)])
    task = problem(space)
    run = alg.RegularizedEvolution(5, 5).start(task)
    rows = task.propose(space.sample(9, seed=1))
    scores = np.array([9.0, 0, 0, 0, 1, 2, 3, np.nan, 2])[:, None]  # 9 is dead, 3 the best alive
    run.tell(rows, scores)
    # A tournament of 5 drawn with replacement misses the best of 5 in a third of the cases.
    parents = [int((rows != child).sum(axis=1).argmin()) for child in run.ask(25)]
    counts = np.bincount(parents, minlength=9)
    assert counts[:4].sum() == 0 == counts[7], "the dead and the failed have no children"
    assert counts.argmax() == 6


def test_local_search_climbs_to_the_top():
    space = sn.Space([sn.oneof(list("abcdefg")) for _ in range(6)])
    for move, most in (("first", 120), ("best", 36 * 7 + 1)):
        task = problem(space)
        run = alg.LocalSearch(1, move=move).start(task)
        rows = drive(task, run, most, score=lambda row: row.sum(axis=1, keepdims=True) * 1.0)
        assert rows.sum(axis=1).max() == 36, f"{move}: a single peak is reached by climbing"


def test_local_search_restarts_at_a_local_optimum():
    space = sn.Space([sn.oneof(list("abcd")) for _ in range(4)])
    task = problem(space)
    run = alg.LocalSearch(1).start(task)
    rows = drive(task, run, 60, score=lambda row: np.zeros((1, 1)))
    starts = [0]
    for i in range(1, len(rows)):
        if (rows[starts[-1]] != rows[i]).sum() > 1:
            starts.append(i)
    assert starts[1] == 13, "all 12 neighbours come first"


def test_grid_search_keeps_the_order():
    space = example_spaces()["conditional"]
    task = problem(space)
    rows = drive(task, alg.GridSearch().start(task), 100)
    assert np.array_equal(rows, np.concatenate(list(space.enumerate())))


def test_grid_search_needs_levels_for_floats():
    task = problem(example_spaces()["float"])
    with pytest.raises(ValueError, match=r"`levels` \(None\) must be .* float decisions \(rate\)"):
        alg.GridSearch().start(task)
    assert len(drive(task, alg.GridSearch(levels=4).start(task), 100)) == 12


def test_random_architectures_are_uniform():
    """Half of the draws take the small branch by decisions, one in ten by architectures."""
    space = sn.Space(sn.oneof(["skip", [sn.oneof(list("abc")), sn.oneof(list("abc"))]]))
    share = {}
    for uniform in ("decisions", "architectures"):
        first = []
        for seed in range(200):
            task = problem(space, seed)
            first.append(alg.RandomSearch(uniform).start(task).ask(1)[0, 0] == 0)
        share[uniform] = np.mean(first)
    assert 0.4 < share["decisions"] < 0.6 and share["architectures"] < 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: alg.RandomSearch("all"), "`uniform` \\('all'\\) must be 'decisions' or 'arch"),
        (lambda: alg.RegularizedEvolution(5, 10), "`population_size` \\(5\\) must be no less than"),
        (
            lambda: alg.RegularizedEvolution(2.5),
            "`population_size` \\(2.5\\) must be a whole number",
        ),
        (lambda: alg.RegularizedEvolution(mutations=0), "`mutations` \\(0\\) must be at least 1"),
        (lambda: alg.LocalSearch(0), "`initial_samples` \\(0\\) must be at least 1"),
        (lambda: alg.LocalSearch(move="last"), "`move` \\('last'\\) must be 'best' or 'first'"),
        (lambda: alg.GridSearch(True), "`levels` \\(True\\) must be a whole number or None"),
    ],
)
def test_hyper_parameters_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
