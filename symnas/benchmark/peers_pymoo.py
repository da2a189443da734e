"""pymoo's evolutionary algorithms. Decisions are independent integers there, inactive ones too.

J. Blank and K. Deb, "pymoo: Multi-Objective Optimization in Python", IEEE Access 8 (2020), 89497,
arXiv:2002.04504. Algorithms have pymoo's defaults, but for the operators that its guide to discrete
variables gives integers: simulated binary crossover and polynomial mutation, both with `eta` 3 and
probability 1, rounded. Duplicates are eliminated, as pymoo does: against the population and the
other children, not against all that was evaluated before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.evaluator import Evaluator
from pymoo.core.problem import Problem as Theirs
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.problems.static import StaticProblem

from symnas.searching.problem import Problem
from symnas.searchspace import conditions as cond

ALGORITHMS = {"nsga2": NSGA2, "smsemoa": SMSEMOA}


def start(kind: str, problem: Problem, options: Mapping[str, Any]) -> PymooRun:
    """A run of one of pymoo's algorithms."""
    return PymooRun(kind, problem, options)


class PymooRun:
    """Serves an algorithm's generations one by one, and tells each when it is complete.

    Objectives are minimised, limits are inequality constraints: by how much each is broken,
    relative to it. What failed is left out of its generation.

    Args:
        kind: "nsga2" or "smsemoa".
        problem: whose seed, objectives and constraints are taken.
        options: of pymoo's class.

    Raises:
        ValueError: the space has picks that must differ, or no decision, or SMS-EMOA is given one
            objective.
    """

    def __init__(self, kind: str, problem: Problem, options: Mapping[str, Any]) -> None:
        space = problem.space
        if space._compiled.rules:
            raise ValueError(
                f"pymoo has no choice of several different candidates, as {space!r} has."
            )
        if not len(space):
            raise ValueError(f"pymoo needs a decision, and {space!r} has none.")
        if kind == "smsemoa" and len(problem.objectives) < 2:
            raise ValueError("pymoo's SMS-EMOA takes several objectives; pymoo-nsga2 one too.")
        self.problem = problem
        self.checks = () if problem.constraints is None else problem.constraints.checks
        self.theirs = Theirs(
            n_var=len(space),
            n_obj=len(problem.objectives),
            n_ieq_constr=len(self.checks),
            xl=np.zeros(len(space), int),
            xu=np.array([decision.size - 1 for decision in space.decisions]),
            vtype=int,
        )
        integers: dict[str, Any] = {
            "sampling": IntegerRandomSampling(),
            "crossover": SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            "mutation": PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            "eliminate_duplicates": True,
        }
        self.algorithm = ALGORITHMS[kind](**{**integers, **options})
        self.algorithm.setup(self.theirs, seed=problem.seed, termination=NoTermination())
        self.generation: Any = None  # a pymoo Population; None: the next is to be asked for
        self.served = 0
        self.scores: list[NDArray[np.float64]] = []
        self.excess: list[NDArray[np.float64]] = []
        self.ended = False

    def ask(self, n: int) -> NDArray[np.int32]:
        """`n` proposals; fewer at the end of a generation, or where pymoo finds no new child."""
        rows: list[list[int]] = []
        while len(rows) < n and not self.ended:
            if self.generation is None:
                self.generation, self.served = self.algorithm.ask(), 0
                # pymoo gives up after a hundred matings without a child that is new to it.
                self.ended = self.generation is None
            elif self.served == len(self.generation):
                break  # its results are needed first
            else:
                rows.append(self._row(self.generation[self.served].X))
                self.served += 1
        return np.array(rows, np.int32).reshape(len(rows), len(self.problem.space))

    def _row(self, values: Any) -> list[int]:
        space = self.problem.space
        row = [-1] * len(space)
        for column in space._compiled.order:
            if cond.holds_row(space._compiled.columns[column].condition, row):
                row[column] = int(values[column])
        return row

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Results in the order of proposal; those of infeasible ones too."""
        self.scores += list(scores)
        broken = [check.excess(rows) for check in self.checks]
        self.excess += list(np.array(broken, float).reshape(len(self.checks), len(rows)).T)
        if self.generation is not None and len(self.scores) == len(self.generation):
            self._advance()

    def _advance(self) -> None:
        scores, excess = np.array(self.scores), np.array(self.excess)
        whole = np.isfinite(scores).all(axis=1) & np.isfinite(excess).all(axis=1)
        known = self.generation[whole]
        self.generation, self.scores, self.excess = None, [], []
        if len(known):  # else pymoo is asked again, as if the generation had not been
            limits = {"G": excess[whole]} if self.checks else {}
            static = StaticProblem(self.theirs, F=-scores[whole], **limits)
            Evaluator().eval(static, known)
            self.algorithm.tell(infills=known)
