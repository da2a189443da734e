"""Grid search: every architecture of the space once, in order.

Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization" (JMLR 13), section 1,
who define it and show why random search beats it wherever a space cannot be exhausted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.searching.algorithm import Algorithm, Run
from symnas.searching.checks import at_least
from symnas.searching.problem import Problem
from symnas.searching.sequential import SequentialRun


@attrs.frozen
class GridSearch(Algorithm):
    """Proposes the rows of `space.enumerate()` that meet the constraints, in that order.

    The last decision changes fastest. Rows are streamed, so the size of the space costs no memory.

    Args:
        levels: how many values, evenly spaced on its scale from end to end, stand for each float
            decision (one: the middle). Needed where the space has float decisions.

    Raises:
        TypeError: `levels` is not a whole number.
        ValueError: `levels` is below 1; or, at the start of a search, it is needed and missing.

    >>> from symnas import algorithms as alg
    >>> alg.GridSearch(levels=5)
    GridSearch(levels=5)
    """

    many_objectives: ClassVar[bool] = True

    levels: int | None = attrs.field(default=None, validator=at_least(1, optional=True))

    def start(self, problem: Problem) -> Run:
        self.check(problem)
        return _Grid(self, problem)

    def check(self, problem: Problem) -> None:
        floats = [d.id for d in problem.space.decisions if d.kind == "float"]
        if floats and self.levels is None:
            raise ValueError(
                f"GridSearch: the value of `levels` (None) must be a whole number, because the "
                f"space has float decisions ({', '.join(floats)}). Pass GridSearch(levels=5) to "
                "try five values of each."
            )


class _Grid(SequentialRun):
    def __init__(self, algorithm: GridSearch, problem: Problem) -> None:
        super().__init__(problem)
        self._rows = self._stream(algorithm.levels)

    def next(self) -> NDArray[np.int32]:
        for row in self._rows:
            if self.problem.fresh(row)[0]:
                return row
        return np.empty((0, len(self.problem.space.columns)), np.int32)

    def _stream(self, levels: int | None) -> Iterator[NDArray[np.int32]]:
        """The feasible rows that were not proposed when they came up, `(1, columns)` each."""
        for batch in self.problem.space.enumerate(levels=levels):
            # Sieved as a whole, so that tight constraints cost little; what is proposed until
            # its turn comes is sieved again above.
            for i in np.flatnonzero(self.problem.fresh(batch)):
                yield batch[i : i + 1]

    def tell(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """The order is fixed."""
