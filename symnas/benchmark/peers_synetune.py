"""Syne Tune's regularized evolution. Decisions are independent there: it mutates inactive ones too.

D. Salinas et al., "Syne Tune: A Library for Large Scale Hyperparameter Tuning and Reproducible
Research", AutoML 2022.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from syne_tune.config_space import choice, randint
from syne_tune.optimizer.schedulers.searchers.regularized_evolution import RegularizedEvolution

from symnas.searching.problem import Problem
from symnas.searchspace import conditions as cond


def start(kind: str, problem: Problem, options: Mapping[str, Any]) -> SyneTuneRun:
    """A run of the searcher."""
    del kind  # there is one
    return SyneTuneRun(problem, options)


class SyneTuneRun:
    """Asks and tells a searcher; it minimises, and is not told what is infeasible or failed.

    Raises:
        ValueError: the space has picks that must differ, or there are several objectives.
    """

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        space = problem.space
        if space._compiled.rules:
            raise ValueError(
                f"Syne Tune has no choice of several different candidates, as {space!r} has."
            )
        if len(problem.objectives) > 1:
            raise ValueError("Syne Tune's regularized evolution takes one objective.")
        self.problem = problem
        domains = {
            f"d{i}": choice(list(range(d.size)))
            if d.kind == "categorical"
            else randint(0, d.size - 1)
            for i, d in enumerate(space.decisions)
        }
        self.searcher = RegularizedEvolution(domains, random_seed=problem.seed, **options)
        self.open: deque[dict[str, Any]] = deque()
        self.told = 0
        self._state = np.random.RandomState(problem.seed).get_state()

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """The searcher draws its first population from numpy's global generator, not its own."""
        before = np.random.get_state()
        np.random.set_state(self._state)
        try:
            yield
        finally:
            self._state = np.random.get_state()
            np.random.set_state(before)

    def ask(self, n: int) -> NDArray[np.int32]:
        """`n` proposals."""
        space, rows = self.problem.space, []
        for _ in range(n):
            with self._seeded():
                config = self.searcher.suggest()
            if config is None:
                break
            self.open.append(config)
            row = [-1] * len(space)
            for column in space._compiled.order:
                if cond.holds_row(space._compiled.columns[column].condition, row):
                    row[column] = int(config[f"d{column}"])
            rows.append(row)
        return np.array(rows, np.int32).reshape(len(rows), len(space))

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Results in the order of proposal."""
        allowed = self.problem.feasible(rows)
        for score, feasible in zip(scores[:, 0], allowed, strict=True):
            config = self.open.popleft()
            if feasible and np.isfinite(score):
                self.searcher.on_trial_complete(self.told, config, -float(score))
            self.told += 1
