"""Bayesian optimisation: a Gaussian process says which architecture promises most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from symnas.predictors.gaussian_process import GaussianProcess
from symnas.predictors.kernel import Encoded, distances, likeliest_kernel
from symnas.predictors.posterior import Posterior
from symnas.searching.acquisition import (
    log_expected_improvement,
    log_expected_scalarization,
)
from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun
from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]

# The kernel is found anew each time the results have become so many times as many.
GROWTH = 1.15
# Results that a process is given at most: the best half of them, and of the others the latest.
MOST = 600
# Spaces of up to so many architectures are looked at as a whole.
WHOLE = 65_536
# Else a pool: random rows, and mutations of each of the best, which are then improved step by step.
RANDOM, PARENTS, CHILDREN, CLIMBS, STEPS = 500, 20, 15, 3, 5
# Kinds of features that explain less than this share of every objective are left out.
WEAK = 0.02
# Of several objectives, in parts of the range of results: how far the worst result lies above 0, and
# how much better than the best one may be expected.
MARGIN, BEYOND = 0.01, 0.1
# By how many of the best different results it is judged what better ones' scores would be, and how
# many scores beyond.
TOP, FAR = 5, 10.0


@attrs.frozen
class BayesianOptimization(Algorithm):
    """Evaluates where a Gaussian process expects the largest improvement.

    The process sees an architecture as its program says it is: by its decisions, by how often each
    part stands in it, and by the paths that data take through its operations, without those that
    have no effect. What counts, the marginal likelihood decides. Results are modelled by their ranks. Small spaces are looked at
    as a whole; of large ones a pool, whose best are improved by changes of single decisions. What is
    looked at is feasible, so no proposal breaks a limit. While trials run, their results are taken
    for what is expected of them (the "Kriging believer" of Ginsbourger, Le Riche and Carraro 2010),
    so several workers get different architectures.

    Several objectives are improved together by the expected growth of their hypervolume in a random
    direction for each proposal (Zhang and Golovin 2020, arXiv 2006.04655), in the units of the
    results. Costs that are objectives are known, and need no model.

    In the line of Kandasamy et al. 2018 (NASBOT, arXiv 1802.07191) and White, Neiswanger and Savani
    2021 (BANANAS, arXiv 1910.11858), whose path encoding the features generalise to any space; kernel,
    ranks and pools are ours.

    Args:
        initial: random architectures to begin with.
        process: the Gaussian process, whose features can be chosen.

    Raises:
        ValueError: `initial` is below 2.

    >>> from symnas import algorithms as alg
    >>> alg.BayesianOptimization(initial=8).process.features
    ('onehot', 'path', 'paths')
    """

    many_objectives: ClassVar[bool] = True

    initial: int = attrs.field(default=10, validator=at_least(2))
    process: GaussianProcess = attrs.field(
        factory=GaussianProcess, validator=attrs.validators.instance_of(GaussianProcess)
    )

    def start(self, problem: Problem) -> Run:
        return _Optimization(self, problem)


class _Optimization(SequentialRun):
    """What is proposed follows from what was told, and from what was proposed and is open."""

    def __init__(self, algorithm: BayesianOptimization, problem: Problem) -> None:
        super().__init__(problem)
        self._algorithm = algorithm
        self._rows: list[NDArray[np.int32]] = []
        self._scores: list[Floats] = []
        self._model: _Model | None = None
        self._whole: _Whole | None = None

    def tell(self, rows: Rows, scores: Floats) -> None:
        self._rows.extend(row.copy() for row in rows)
        self._scores.extend(np.array(scores, np.float64))

    def next(self) -> Rows:
        problem = self.problem
        told = np.isfinite(np.array(self._scores)).all(axis=1) if self._scores else np.zeros(0)
        if problem.count < self._algorithm.initial or told.sum() < 2:
            return problem.sample(1, (problem.count,))
        model = self._updated()
        waiting = problem.latest(problem.count - len(self._rows))
        if self._whole is None and _is_small(problem):
            self._whole = _Whole(problem, model)
        if self._whole is not None:
            return self._whole.best(model, waiting)
        return _searched(problem, model, waiting)

    def _updated(self) -> _Model:
        """The model of what was told. Its kernel is found at fixed numbers of results only."""
        n = len(self._rows)
        at = 2
        while math.ceil(at * GROWTH) <= n:
            at = math.ceil(at * GROWTH)
        if self._model is None or self._model.found_at != at:
            self._model = _Model(
                self._algorithm.process, self.problem, self._rows, self._scores, at
            )
        self._model.add(self._rows, self._scores)
        return self._model


class _Model:
    """One Gaussian process for each objective that is not known beforehand.

    Attributes:
        found_at: the number of results that the kernels were found by.
        kinds: of features, which count.
        posteriors: of the objectives, on no pool yet; None for known costs.
    """

    def __init__(
        self,
        process: GaussianProcess,
        problem: Problem,
        rows: list[Any],
        scores: list[Any],
        at: int,
    ) -> None:
        self.process, self.problem, self.found_at = process, problem, at
        chosen = _chosen(_finite(scores[:at]))
        self._at = at
        self._rows = [rows[i] for i in chosen]
        self._scores = [scores[i] for i in chosen]
        known = process.encode(problem.space, np.array(self._rows))
        between = distances(known, known)
        told = _finite(self._scores)
        self.costs = [_known_cost(problem, objective) for objective in range(told.shape[1])]
        kernels = [
            likeliest_kernel(between, process.scored(values).scores) if cost is None else None
            for values, cost in zip(told.T, self.costs, strict=True)
        ]
        shares = [k.weights / k.variance for k in kernels if k is not None]
        # What explains next to nothing is not worked out for whatever is looked at from now on.
        strong = np.max(shares, axis=0) >= WEAK if shares else np.ones(1, bool)
        self.kinds = np.flatnonzero(strong).tolist()
        self.posteriors = [
            None if k is None else Posterior(k.only(self.kinds), known.only(self.kinds))
            for k in kernels
        ]

    def add(self, rows: list[Any], scores: list[Any]) -> None:
        """Takes in what was told since."""
        if len(rows) == self._at:
            return
        new = self.encode(np.array(rows[self._at :]))
        for posterior in self.posteriors:
            for i in range(len(new)):
                if posterior is not None:
                    posterior.add(new[i : i + 1])
        self._rows += rows[self._at :]
        self._scores += scores[self._at :]
        self._at = len(rows)

    def encode(self, rows: Rows) -> Encoded:
        """The features of rows that count."""
        return self.process.encode(self.problem.space, rows, self.kinds)

    def promise(self, views: Sequence[Posterior | None], rows: Rows, waiting: Encoded) -> Floats:
        """What is expected of each row of a pool, on which the views are: `(n,)`."""
        told = _finite(self._scores)
        means, deviations, known = [], [], []
        for values, view, cost in zip(told.T, views, self.costs, strict=True):
            if view is None:
                assert cost is not None
                scale = float(values.std()) or 1.0
                means.append(cost(rows) / scale)
                deviations.append(np.full(len(rows), 1e-6))
                known.append(values / scale)
                continue
            scored = self.process.scored(values).scores
            variances = view.variances_with(waiting) if len(waiting) else view.variances
            means.append(np.asarray(view.means(scored), np.float64))
            deviations.append(np.sqrt(np.maximum(variances, 1e-10)).astype(np.float64))
            known.append(scored)
        if len(means) == 1:
            return log_expected_improvement(means[0], deviations[0], known[0].max())
        rng = np.random.default_rng((self.problem.seed, self.problem.count, 3))
        return _promise_of_many(
            np.stack(means, axis=1),
            np.stack(deviations, axis=1),
            np.stack(known, axis=1),
            told,
            rng,
        )


def _promise_of_many(
    means: Floats, deviations: Floats, scores: Floats, results: Floats, rng: np.random.Generator
) -> Floats:
    """What is expected of each row of a pool in a random direction of the objectives: `(n,)`.

    Volumes are of results, which people measure, and not of scores: by those, ever smaller changes
    of an extreme would count as much as real ones.
    """
    low, high = results.min(axis=0), results.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    values = (results - low) / span + MARGIN
    weights = np.abs(rng.standard_normal(results.shape[1]))
    weights /= np.linalg.norm(weights)
    best = float((values / weights).min(axis=1).max())
    top = max(float(((values.max(axis=0) + BEYOND) / weights).min()), (1 + BEYOND) * best)
    ladders = [_scores_of(*both) for both in zip(scores.T, values.T, strict=True)]
    return log_expected_scalarization(means, deviations, weights, best, top, ladders)


def _scores_of(scores: Floats, values: Floats) -> Callable[[Floats], Floats]:
    """Which scores belong to values: between known ones by lines, which go on beyond."""
    at, first = np.unique(scores, return_index=True)
    steps = values[first]
    best = slice(max(0, len(at) - TOP), len(at))  # a single gap would make it a matter of chance
    spread, rise = float(np.ptp(at[best])), float(np.ptp(steps[best]))
    slope = rise / spread if rise > 0 else 1.0
    knots = np.concatenate([[0.0], steps, [steps[-1] + FAR * slope]])
    heights = np.concatenate([[at[0] - MARGIN * np.ptp(at)], at, [at[-1] + FAR]])
    return lambda wanted: np.interp(wanted, knots, heights)


class _Whole:
    """All architectures of a small space, with what the model says of them, kept up to date."""

    def __init__(self, problem: Problem, model: _Model) -> None:
        rows, encoded = _all_of(problem.space, model.process)
        kept = np.flatnonzero(problem.feasible(rows))
        self.problem, self.rows, self._encoded = problem, rows[kept], encoded[kept]
        self._open = np.ones(len(self.rows), bool)
        self._of: _Model | None = None
        self._views: list[Posterior | None] = []

    def best(self, model: _Model, waiting: Rows) -> Rows:
        """The most promising row that is still open, `(1, columns)`; `(0, columns)` at the end."""
        if model is not self._of:
            self._of = model
            for posterior in model.posteriors:
                if posterior is not None:
                    posterior.follow(self._encoded.only(model.kinds))
        promise = model.promise(model.posteriors, self.rows, model.encode(waiting))
        promise[~self._open] = -np.inf
        for i in np.argsort(-promise, kind="stable"):
            if not self._open[i]:
                break
            if self.problem.fresh(self.rows[i : i + 1])[0]:
                return self.rows[i : i + 1]
            self._open[i] = False
        return self.problem.sample(1, (self.problem.count,))


def _all_of(space: Space, process: GaussianProcess) -> tuple[Rows, Encoded]:
    """All different architectures of a space, and their features; kept for the next search on it."""
    if "architectures" not in space.derived:
        rows = np.concatenate(list(space.enumerate()))
        first: dict[bytes, int] = {}
        for i, key in enumerate(space.keys(rows)):
            first.setdefault(key, i)
        space.derived["architectures"] = rows[list(first.values())]
    found: Rows = space.derived["architectures"]
    name = f"encoded {process.features}"
    if name not in space.derived:
        space.derived[name] = process.encode(space, found)
    return found, space.derived[name]


def _searched(problem: Problem, model: _Model, waiting: Rows) -> Rows:
    """The most promising row of a pool, and of what single changes make of its best."""
    count = problem.count
    order = np.argsort(-_overall(model._scores), kind="stable")[:PARENTS]
    parents = np.repeat(np.array(model._rows)[order], CHILDREN, axis=0)
    children = problem.mutate(parents, (count, 2), repaired=False)
    pool = np.concatenate([problem.sample(RANDOM, (count, 1)), children])
    if not len(pool):
        return pool
    others = model.encode(waiting)

    def promise(rows: Rows) -> Floats:
        encoded = model.encode(rows)
        views = [p if p is None else p.elsewhere(encoded) for p in model.posteriors]
        return model.promise(views, rows, others)

    found = promise(pool)
    tops = np.argsort(-found, kind="stable")[:CLIMBS]
    rows, values = pool[tops], found[tops]
    for _ in range(STEPS):
        # The neighbours of all at once, as much of the work is the same for many rows as for one.
        near = [problem.space.neighbors(row) for row in rows]
        near = [around[problem.fresh(around)] for around in near]
        if not sum(map(len, near)):
            break
        promises = np.split(promise(np.concatenate(near)), np.cumsum([len(n) for n in near])[:-1])
        before = values.copy()
        for i, (around, told) in enumerate(zip(near, promises, strict=True)):
            if len(around) and told.max() > values[i]:
                rows[i], values[i] = around[told.argmax()], told.max()
        if (values == before).all():
            break
    return rows[values.argmax()][None]


def _is_small(problem: Problem) -> bool:
    dear = problem.constraints is not None and problem.constraints.dear
    return not dear and not problem.space.has_floats and problem.space.size <= WHOLE


def _known_cost(problem: Problem, index: int) -> Callable[[Rows], Floats] | None:
    """The scores of an objective that is a cost, where it is known without measuring."""
    objective = problem.objectives[index] if index < len(problem.objectives) else None
    cost = problem.costs.get(objective.name) if objective is not None else None
    if objective is None or objective.cost is None or cost is None or cost.dear:
        return None
    sign = objective.sign
    return lambda rows: sign * cost(rows)


def _finite(scores: Sequence[Floats]) -> Floats:
    """Scores `(n, objectives)`; failed trials have the worst of the others."""
    told = np.array(scores, np.float64)
    worst = np.where(np.isfinite(told), told, np.inf).min(axis=0)
    return np.where(np.isfinite(told), told, worst)


def _overall(scores: Sequence[Floats]) -> Floats:
    """How good results are over all objectives, by their mean rank: `(n,)`."""
    return np.asarray(rankdata(_finite(scores), axis=0).mean(axis=1), np.float64)


def _chosen(scores: Floats) -> list[int]:
    """Which results a process is given: the best half of what it can take, else the latest."""
    if len(scores) <= MOST:
        return list(range(len(scores)))
    best = set(np.argsort(-_overall(list(scores)), kind="stable")[: MOST // 2].tolist())
    latest = [i for i in range(len(scores)) if i not in best][-(MOST - len(best)) :]
    return sorted([*best, *latest])
