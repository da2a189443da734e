"""`PeakCost`: a cost that is the largest of many local ones, such as peak memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost, Bounds, Range, Rows
from symnas.costs.comparison import Limits
from symnas.costs.limits import Ceiling
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import structure_of
from symnas.costs.table import CostTable, Term
from symnas.costs.trellis import Trellis

if TYPE_CHECKING:
    from symnas.costs.accuracy import Accuracy
    from symnas.costs.independent import Probabilities
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Seed, Space

# The most distinct values of the peak between which an expectation tells the difference.
LEVELS = 4096


class PeakCost(BoundCost):
    """`max(floor, largest term)` of a row; terms depend on a few decisions each.

    Args:
        model, space: what is bound.
        terms: whose largest is the cost; 0 where what they stand for is not part of the network.
        floor: the least that the cost can be.
        error: on held-out architectures.
    """

    def __init__(
        self,
        model: CostModel,
        space: Space,
        terms: Sequence[Term],
        floor: float = 0.0,
        error: Accuracy | None = None,
    ) -> None:
        super().__init__(model, space, error)
        # What depends on no decision is held in every row.
        self.terms = tuple(term for term in terms if term.columns)
        self.floor = max([floor, *(float(t.values) for t in terms if not t.columns)])
        self._tables = [CostTable(0.0, [term]) for term in self.terms]

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        peak = np.full(len(rows), self.floor)
        for table in self._tables:
            np.maximum(peak, table(rows), out=peak)
        return peak

    def bounds(self, limits: Limits) -> Bounds | None:
        if limits.upper is None:
            return None
        # The floor counts too; no row keeps a limit below it.
        most = limits.closest if limits.closest >= self.floor else -np.inf
        return Bounds(maxima=(Ceiling(self.terms, most),))

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The mean peak: the sum over its possible values of the chance to exceed each.

        Exact up to 4,096 possible values, with its gradient; estimated from rows beyond, and where
        the terms couple too many decisions.
        """
        from symnas.costs.independent import Independent

        levels = np.unique(np.concatenate([[self.floor], *(t.values.ravel() for t in self.terms)]))
        levels = levels[levels >= self.floor]
        try:
            trellis = Trellis.of(structure_of(self.space), [], [self.terms])
        except TooCoupled:
            return super().expected(probabilities)
        if len(levels) > LEVELS:
            return super().expected(probabilities)
        independent = Independent(self.space, probabilities)
        independent.refuse_rules(set(trellis.columns), f"The expected {self.name}")
        within = torch.ones(1, len(levels), dtype=torch.float64)
        thresholds = torch.from_numpy(levels)
        for step in reversed(trellis.steps):
            ones = torch.ones(1, dtype=torch.float64)
            weights = torch.cat([independent.tensor(step.column), ones])
            size = len(weights) - 1
            index = torch.from_numpy(np.where(step.value < 0, size, step.value).astype(np.int64))
            allowed = torch.from_numpy(step.peaks[0])[:, None] <= thresholds
            edges = weights[index][:, None] * allowed * within[torch.from_numpy(step.target)]
            before = torch.zeros(step.states, len(levels), dtype=torch.float64)
            within = before.index_add(0, torch.from_numpy(step.source), edges)
        steps = torch.from_numpy(np.diff(levels))
        return thresholds[0] + ((1.0 - within[0, :-1]) * steps).sum()

    def range(self, seed: Seed = 0, evaluations: int | None = None) -> Range:
        """The smallest and the largest peak, exactly, by dynamic programming."""
        if self.space.valid is not None:
            return super().range(seed, evaluations)
        try:
            trellis = Trellis.of(structure_of(self.space), [], [self.terms])
        except TooCoupled:
            return super().range(seed, evaluations)
        ends = [self._extreme(trellis, low, seed) for low in (True, False)]
        low, high = self(np.stack(ends)).tolist()
        return Range(low, high, ends[0], ends[1], 0, True)

    def _extreme(self, trellis: Trellis, low: bool, seed: Seed) -> Rows:
        from symnas.costs.independent import Independent

        best = np.full(1, -np.inf)
        ahead = [best]
        for step in reversed(trellis.steps):
            edges = np.maximum(step.peaks[0], best[step.target])
            best = np.full(step.states, np.inf if low else -np.inf)
            (np.minimum if low else np.maximum).at(best, step.source, edges)
            ahead.append(best)
        ahead.reverse()
        row = np.full((1, len(self.space)), -2, np.int32)
        state = 0
        for step, after in zip(trellis.steps, ahead[1:], strict=True):
            edges = np.flatnonzero(step.source == state)
            totals = np.maximum(step.peaks[0, edges], after[step.target[edges]])
            chosen = edges[totals.argmin() if low else totals.argmax()]
            row[0, step.column] = step.value[chosen]
            state = int(step.target[chosen])
        completed: Rows = Independent(self.space).sample(1, np.random.default_rng(seed), row)[0]
        return completed
