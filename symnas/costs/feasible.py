"""Rows that keep limits on costs: their share of a space, and exact samples of them.

Both are passes over a trellis in which a state also carries the slack that is left, in bins. The
smallest cost of completing a path is exact and taken off first, so only what exceeds it is rounded:
down, and no feasible row is lost (an upper bound; samples are checked afterwards, which keeps their
distribution exact); up, and no infeasible row gets in (a lower bound). Where all costs are whole
multiples of a bin, both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.independent import Independent
from symnas.costs.limits import Ceiling, Limit
from symnas.costs.passes import Pass
from symnas.costs.sampler import Sampler
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import Structure
from symnas.costs.trellis import Step, Trellis

Floats = NDArray[np.float64]

# Bins for shares and for samples; with several limits, so many in all.
SHARE_BINS, SAMPLE_BINS, MANY_BINS = 10_000, 1_000, 10_000
BINS_A_DECISION = 20
# Work (edges times bins) and memory (states times bins) that are not exceeded: fewer bins then.
MAX_WORK, MAX_CELLS = 4e8, 6e7


class Feasible:
    """The rows of a space that keep some limits.

    Time grows with the edges of the trellis times the bins; see `symnas.costs.trellis`.

    Args:
        structure: of the space.
        limits: on sums.
        ceilings: on maxima.
        also: further columns that the trellis should have.

    Attributes:
        empty: whether no row keeps all limits, as far as each limit alone tells.
        lows: the smallest value of each limit's table.
        columns: the decisions that matter.

    Raises:
        TooCoupled: the tables couple too many decisions.
    """

    def __init__(
        self,
        structure: Structure,
        limits: Sequence[Limit],
        ceilings: Sequence[Ceiling] = (),
        also: Iterable[int] = (),
    ) -> None:
        self.structure = structure
        relevant = {c for limit in limits for c in limit.columns}
        relevant |= {c for ceiling in ceilings for c in ceiling.columns}
        for rule in structure.rules:
            if relevant & set(rule.columns) and not rule.distinct:
                raise TooCoupled("a cost depends on picks of a `manyof` that may be the same")
        trellis = Trellis.of(
            structure,
            [limit.table for limit in limits],
            [ceiling.terms for ceiling in ceilings],
            also,
        ).below([ceiling.most for ceiling in ceilings])
        self.columns = frozenset(trellis.columns)
        self._rules = [r for r in structure.rules if set(r.columns) <= set(trellis.columns)]
        units = np.eye(len(limits))
        self._least = [trellis.least(unit) for unit in units]
        most = [-float(trellis.least(-unit)[0][0]) for unit in units]
        self.lows = [
            float(low[0][0]) + b for low, b in zip(self._least, trellis.biases, strict=True)
        ]
        slack = [limit.most - low for limit, low in zip(limits, self.lows, strict=True)]
        # Where ceilings have cut all paths, nothing leads to the end any more.
        possible = math.isfinite(float(trellis.least(np.zeros(len(limits)))[0][0]))
        tiny = _tiny(limits)
        self.empty = not possible or any(
            left <= tiny if limit.strict else left < -tiny
            for limit, left in zip(limits, slack, strict=True)
        )
        # A limit that no row can break needs no bins.
        highs = [high + b for high, b in zip(most, trellis.biases, strict=True)]
        self._binding = [
            k
            for k, limit in enumerate(limits)
            if (highs[k] >= limit.most if limit.strict else highs[k] > limit.most)
        ]
        self._strict = [limits[k].strict for k in self._binding]
        self._slack: list[float] = [max(0.0, float(slack[k])) for k in self._binding]
        self._trellis = trellis if self.empty else self._reduced(trellis)

    def fraction(
        self, independent: Independent, bins: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds on the probability of keeping the limits: two scalars, float64.

        The lower one carries the gradient of the probabilities that were given.

        Args:
            independent: the distribution of rows.
            bins: for each limit; by default 10,000, or 100 x 100.
        """
        independent.refuse_rules(
            {c for rule in self._rules for c in rule.columns} & set(independent.given),
            "The share of feasible rows",
        )
        if self.empty:
            zero = torch.zeros((), dtype=torch.float64)
            return zero, zero.clone()
        shape = self._shape(bins or SHARE_BINS, MANY_BINS if bins is None else None)
        low = Pass(self, independent, shape, round_up=True)
        lower = torch.tensor(low.total, dtype=torch.float64)
        if independent.differentiable:
            for column, gradient in low.gradients().items():
                given = independent.given.get(column)
                if given is not None and given.requires_grad:
                    lower = lower + ((given - given.detach()) * torch.from_numpy(gradient)).sum()
        if self._is_exact(shape):
            return lower, lower.detach().clone()
        high = Pass(self, independent, shape, round_up=False)
        return lower, torch.tensor(min(1.0, high.total), dtype=torch.float64)

    def sampler(self, independent: Independent, bins: int | None = None) -> Sampler:
        """Draws feasible rows from a distribution."""
        # Each decision loses up to a bin to rounding down.
        own = max(SAMPLE_BINS, BINS_A_DECISION * len(self._trellis.steps))
        shape = self._shape(bins or own, MANY_BINS)
        return Sampler(
            independent,
            None if self.empty else Pass(self, independent, shape, round_up=False),
        )

    # Preparation ------------------------------------------------------------------------------

    def _reduced(self, trellis: Trellis) -> Trellis:
        """With costs above the smallest completion, and without edges that break a limit."""
        least = [self._least[k] for k in self._binding]
        ahead = np.zeros((len(least), 1))
        slack = np.array(self._slack)[:, None]
        steps = []
        for i, step in enumerate(trellis.steps):
            costs = step.costs[self._binding]
            for k, potential in enumerate(least):
                with np.errstate(invalid="ignore"):  # inf - inf, where a ceiling ended all paths
                    after = potential[i + 1][step.target]
                    costs[k] = np.where(
                        np.isfinite(after), costs[k] + after - potential[i][step.source], np.inf
                    )
            costs = np.maximum(costs, 0.0)
            total = ahead[:, step.source] + costs
            mask = np.asarray((total <= slack * (1 + 1e-9) + 1e-9 * (slack + 1)).all(axis=0))
            if not least:
                mask = np.isfinite(self._any(trellis)[i + 1][step.target])
            peaks = np.empty((0, len(mask)))
            kept = Step(
                step.column, step.source, step.target, step.value, costs, peaks, step.states
            ).kept(mask)
            steps.append(kept)
            states = (len(trellis.steps[i + 1 : i + 2]) and trellis.steps[i + 1].states) or 1
            following = np.full((len(least), states), np.inf)
            for k in range(len(least)):
                np.minimum.at(following[k], kept.target, total[k][mask])
            ahead = following
        return Trellis(tuple(steps), np.zeros(len(least)))

    def _any(self, trellis: Trellis) -> list[Floats]:
        return trellis.least([0.0] * len(trellis.biases))

    def _shape(self, bins: int, many: int | None) -> tuple[int, ...]:
        """How many bins each binding limit has."""
        k = len(self._binding)
        if k == 0:
            return ()
        if k > 1 and many is not None:
            bins = max(4, int(many ** (1 / k)))
        edges = max(1, self._trellis.edges)
        cells = max(1, sum(step.states for step in self._trellis.steps))
        bins = int(min(bins, max(4, min(MAX_WORK / edges, MAX_CELLS / cells) ** (1 / k))))
        whole = [self._whole(i, bins) for i in range(k)]
        return tuple(bins if n is None else n for n in whole)

    def _whole(self, i: int, bins: int) -> int | None:
        """The number of bins where costs are whole multiples of one, if there are so few."""
        costs = np.concatenate([step.costs[i] for step in self._trellis.steps])
        costs = costs[np.isfinite(costs)]
        rounded = np.rint(costs)
        if not len(costs) or np.abs(costs - rounded).max() > 1e-7 or rounded.max() > 2**53:
            return None
        divisor = int(np.gcd.reduce(rounded.astype(np.int64)))
        if divisor == 0:
            return None
        units = self._slack[i] / divisor
        whole = math.ceil(units - 1e-9) - 1 if self._strict[i] else math.floor(units + 1e-9)
        return whole if whole <= bins else None

    def _widths(self, shape: tuple[int, ...]) -> list[float]:
        widths = []
        for i, (slack, bins) in enumerate(zip(self._slack, shape, strict=True)):
            whole = self._whole(i, bins)
            if whole == bins:
                costs = np.concatenate([step.costs[i] for step in self._trellis.steps])
                widths.append(float(np.gcd.reduce(np.rint(costs).astype(np.int64))))
            else:
                widths.append(slack / bins or 1.0)
        return widths

    def _is_exact(self, shape: tuple[int, ...]) -> bool:
        return all(self._whole(i, bins) == bins for i, bins in enumerate(shape))


def _tiny(limits: Sequence[Limit]) -> float:
    return 1e-9 * max((abs(limit.most) for limit in limits), default=1.0)
