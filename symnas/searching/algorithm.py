"""The contract of an algorithm: a value that starts runs, which are asked and told."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from symnas.flow.stage import Stage
    from symnas.searching.problem import Problem

Rows = NDArray[np.int32]


class Algorithm(abc.ABC):
    """A search algorithm: a frozen value with its hyper-parameters, without state or I/O.

    A subclass is a frozen attrs class with one method, `start`. What its runs propose must depend
    on nothing but the problem's seed, the number of proposals so far (`problem.count`) and what
    they were told: then a run continues anywhere, from the record of an earlier one.
    """

    many_objectives: ClassVar[bool] = False
    # What it evaluates architectures at, from the lowest; () for an algorithm without fidelities.
    budgets: tuple[float, ...] = ()

    @abc.abstractmethod
    def start(self, problem: Problem) -> Run:
        """A run on a problem, from its beginning."""

    def check(self, problem: Problem) -> None:
        """Raises ValueError where the algorithm cannot work on this problem."""
        if len(problem.objectives) > 1 and not self.many_objectives:
            names = ", ".join(o.name for o in problem.objectives)
            raise ValueError(
                f"{type(self).__name__} improves one objective; {len(problem.objectives)} are given "
                f"({names}). Keep one and turn the others into constraints (subject_to=[...]), or "
                "use an algorithm for several, such as NSGA2."
            )

    def over(self, *decisions: str, trials: int | tuple[int, ...] | None = None) -> Stage:
        """This algorithm as one stage of a flow, see `sn.flow`.

        Args:
            decisions: what it searches there: groups, names, ids or patterns (`"**.kernel_size"`),
                each with all that is nested in it; "model" for all without a group. By default all
                that is left.
            trials: how many. Several increasing numbers for the inner search of a nested flow.

        >>> from symnas import algorithms as alg
        >>> print(alg.RandomSearch().over("hardware", trials=40))
        RandomSearch() over hardware, 40 trials
        """
        from symnas.flow.stage import Stage

        return Stage(self, decisions, trials)

    def as_dna_generator(self, seed: int = 0) -> Any:
        """This algorithm as a `pg.DNAGenerator`, for PyGlove's own `pg.sample`."""
        from symnas.searching.generator import as_dna_generator

        return as_dna_generator(self, seed)


class Run(abc.ABC):
    """One run of an algorithm on one problem.

    Attributes:
        stage: which part of a flow made the latest proposal; "" outside flows.
    """

    stage: str = ""

    @abc.abstractmethod
    def ask(self, n: int) -> Rows:
        """Up to `n` architectures to evaluate, `(n, columns)`; fewer when nothing is left.

        They are feasible and never proposed before (`problem.sample`, `mutate` and `crossover` see
        to that), and are passed through `problem.propose` before they are returned. An algorithm of
        several fidelities proposes them again at higher budgets, with `problem.propose(row, budget)`.
        """

    @abc.abstractmethod
    def tell(self, rows: Rows, scores: NDArray[np.float64]) -> None:
        """Results: scores are `(n, objectives)`, larger is better, NaN is a failed trial.

        They come in the order of proposal; those at one budget do, where there are several. The rows may be proposals of an earlier run that is continued.
        """

    def replay(self, rows: Rows, stage: str) -> None:  # noqa: B027  # most runs need no note
        """Takes note of proposals of an earlier run, made by this stage, instead of being asked.

        They are marked in the problem already. Flows find out by it where they were.
        """
