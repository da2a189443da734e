"""Optuna's samplers on a space: each decision is suggested where it is active.

T. Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019,
arXiv:1907.10902.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from symnas.searching.problem import Problem
from symnas.searchspace import conditions as cond

VIOLATION = "violation"


def start(kind: str, problem: Problem, options: Mapping[str, Any]) -> OptunaRun:
    """A run of one of Optuna's samplers."""
    return OptunaRun(kind, problem, options)


class OptunaRun:
    """Asks and tells a study in memory.

    Args:
        kind: "random", "tpe", "nsga2" or "gp".
        problem: whose seed, objectives and constraints are taken.
        options: of the sampler.

    Raises:
        ValueError: the space has picks that must differ, which Optuna cannot express.
    """

    def __init__(self, kind: str, problem: Problem, options: Mapping[str, Any]) -> None:
        if problem.space._compiled.rules:
            raise ValueError(
                f"Optuna has no choice of several different candidates, as {problem.space!r} has."
            )
        self.problem = problem
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with _quiet():
            self.study = optuna.create_study(
                directions=["maximize"] * len(problem.objectives),
                sampler=self._sampler(kind, options),
            )
        self.open: deque[Any] = deque()

    def _sampler(self, kind: str, options: Mapping[str, Any]) -> Any:
        given = {"seed": self.problem.seed, **options}
        if self.problem.constraints is not None and kind != "random":
            given["constraints_func"] = _violations
        samplers = {"tpe": "TPESampler", "nsga2": "NSGAIISampler", "gp": "GPSampler"}
        return getattr(optuna.samplers, samplers.get(kind, "RandomSampler"))(**given)

    def ask(self, n: int) -> NDArray[np.int32]:
        """`n` proposals."""
        with _quiet():
            rows = [self._ask() for _ in range(n)]
        return np.array(rows, np.int32).reshape(n, len(self.problem.space))

    def _ask(self) -> list[int]:
        trial = self.study.ask()
        space = self.problem.space
        row = [-1] * len(space)
        for column in space._compiled.order:
            if not cond.holds_row(space._compiled.columns[column].condition, row):
                continue
            decision = space.decisions[column]
            if decision.kind == "float":
                low, high = decision.candidates
                log = decision.scale == "log"
                row[column] = decision.level(trial.suggest_float(decision.id, low, high, log=log))
            elif decision.kind == "ordinal":
                row[column] = trial.suggest_int(decision.id, 0, decision.size - 1)
            else:
                row[column] = trial.suggest_categorical(decision.id, list(range(decision.size)))
        self.open.append(trial)
        return row

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Results in the order of proposal; those of infeasible ones too."""
        with _quiet():
            for row, score in zip(rows, scores, strict=True):
                trial = self.open.popleft()
                if not np.isfinite(score).all():
                    self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    continue
                constraints = self.problem.constraints
                if constraints is not None:
                    excess = [float(check.excess(row[None])[0]) for check in constraints.checks]
                    trial.set_user_attr(VIOLATION, excess)
                self.study.tell(trial, score.tolist())


def _violations(trial: Any) -> Sequence[float]:
    """What is above 0 breaks a limit."""
    found: Sequence[float] = trial.user_attrs[VIOLATION]
    return found


class _quiet(warnings.catch_warnings):
    """Without Optuna's notes on experimental samplers and on arguments to be renamed."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
