"""Random search: every proposal is drawn anew, none twice.

Li and Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture Search"
(arXiv 1902.07638), section 4: the baseline that every search has to beat.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import one_of
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun


@attrs.frozen
class RandomSearch(Algorithm):
    """Draws architectures at random, without repetition, that meet the constraints.

    Args:
        uniform: "decisions" draws every active decision uniformly, so that a small branch comes
            as often as a large one; "architectures" makes all architectures equally likely.

    Raises:
        ValueError: `uniform` is another word.

    >>> from symnas import algorithms as alg
    >>> alg.RandomSearch()
    RandomSearch(uniform='decisions')
    """

    many_objectives: ClassVar[bool] = True

    uniform: str = attrs.field(
        default="decisions", validator=one_of(("decisions", "architectures"))
    )

    def start(self, problem: Problem) -> Run:
        return _Draws(self, problem)


class _Draws(SequentialRun):
    def __init__(self, algorithm: RandomSearch, problem: Problem) -> None:
        super().__init__(problem)
        self._uniform = algorithm.uniform

    def next(self) -> NDArray[np.int32]:
        return self.problem.sample(1, (self.problem.count,), uniform=self._uniform)

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Random search learns nothing."""
