"""One pass over a trellis in which a state also carries the slack that limits leave, in bins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.independent import Independent
from symnas.costs.trellis import Step

if TYPE_CHECKING:
    from symnas.costs.feasible import Feasible

Floats = NDArray[np.float64]

# Rounding of sums of floats, in bins.
ROUNDING = 1e-6


class Pass:
    """The probability of keeping the limits from each state with each slack, backwards.

    Attributes:
        shifts: the bins that each edge takes, `(limits, edges)` a step.
        weights: each edge's probability, `(edges,)` a step.
        ahead: from each state before each step, `(states, *bins + 1)`, up to a factor.
    """

    def __init__(
        self, feasible: Feasible, independent: Independent, shape: tuple[int, ...], round_up: bool
    ) -> None:
        self.steps = feasible._trellis.steps
        self.shape = shape
        self._sizes = feasible.structure.sizes
        self._strict = feasible._strict
        self.widths = np.array(feasible._widths(shape))
        whole = [feasible._whole(i, bins) == bins for i, bins in enumerate(shape)]
        self.shifts = [self._shifted(step, whole, round_up) for step in self.steps]
        self.weights = [self._weight(step, feasible, independent) for step in self.steps]
        cells = tuple(bins + 1 for bins in shape)
        after = np.ones((1, *cells))
        self.ahead = [after]
        self.logs = [0.0]
        for step, shifts, weights in zip(
            reversed(self.steps), reversed(self.shifts), reversed(self.weights), strict=True
        ):
            before = np.zeros((step.states, *cells))
            _backward(before, after, step, shifts, weights, shape)
            # A factor is taken out, so that even very rare rows do not vanish in rounding.
            largest = float(before.max(initial=0.0)) or 1.0
            before /= largest
            self.logs.append(self.logs[-1] + math.log(largest))
            self.ahead.append(before)
            after = before
        self.ahead.reverse()
        self.logs.reverse()
        self._start = float(self.ahead[0][(0, *shape)])

    @property
    def possible(self) -> bool:
        """Whether anything keeps the limits, however rare it is."""
        return self._start > 0

    @property
    def total(self) -> float:
        """The probability of keeping the limits (the number of rows, where rows are counted)."""
        if not self.possible:
            return 0.0
        try:
            return math.exp(self.logs[0]) * self._start
        except OverflowError:
            return math.inf

    def _shifted(self, step: Step, whole: list[bool], round_up: bool) -> NDArray[np.int64]:
        if not self.shape:
            return np.zeros((0, len(step.value)), np.int64)
        bins = step.costs / self.widths[:, None]
        # What costs as much as a strict limit allows is beyond it.
        beyond = np.where(np.array(self._strict)[:, None], 1e-12, 0.0)
        rounded = np.ceil(bins * (1 + beyond)) if round_up else np.floor(bins + ROUNDING)
        rounded = np.where(np.array(whole)[:, None], np.rint(bins), rounded)
        shifts: NDArray[np.int64] = np.minimum(rounded, np.array(self.shape)[:, None] + 1).astype(
            np.int64
        )
        return shifts

    def _weight(self, step: Step, feasible: Feasible, independent: Independent) -> Floats:
        probabilities = np.append(independent.of(step.column), 1.0)  # the last one: inactive
        weights: Floats = probabilities[step.value]
        for rule in feasible._rules:
            if step.column == rule.columns[0] and not independent.counting:
                # What the rule excludes is not drawn: the allowed picks share its probability.
                n, k = feasible.structure.sizes[step.column], len(rule.columns)
                count = math.comb(n, k) if rule.sorted else math.perm(n, k)
                weights = np.where(step.value >= 0, weights * (n**k / count), weights)
        return weights

    def gradients(self) -> dict[int, Floats]:
        """The derivative of `total` by the probability of each decision's values."""
        result: dict[int, Floats] = {}
        reached = np.zeros(self.ahead[0].shape)
        reached[(0, *self.shape)] = 1.0
        for i, step in enumerate(self.steps):
            after = self.ahead[i + 1]
            following = np.zeros(after.shape)
            per_edge = np.zeros(len(step.value))
            for edge in range(len(step.value)):
                shift = self.shifts[i][:, edge]
                if (shift > self.shape).any():
                    continue
                taken = tuple(slice(s, None) for s in shift)
                left = tuple(slice(None, b + 1 - s) for s, b in zip(shift, self.shape, strict=True))
                here = reached[(step.source[edge], *taken)]
                target = step.target[edge]
                per_edge[edge] = (here * after[(target, *left)]).sum()
                following[(target, *left)] += self.weights[i][edge] * here
            active = step.value >= 0
            sums = np.bincount(step.value[active], per_edge[active], self._sizes[step.column])
            result[step.column] = np.asarray(sums * math.exp(self.logs[i + 1]), np.float64)
            reached = following
        return result


def _backward(
    before: Floats,
    after: Floats,
    step: Step,
    shifts: NDArray[np.int64],
    weights: Floats,
    shape: tuple[int, ...],
) -> None:
    """Adds to each state what its edges lead to, with the slack that they leave."""
    if not shape:
        np.add.at(before, step.source, weights * after[step.target])
        return
    fits = (shifts <= np.array(shape)[:, None]).all(axis=0) & (weights > 0)
    if len(shape) == 1:
        bins = shape[0] + 1
        edges = zip(
            step.source[fits].tolist(),
            step.target[fits].tolist(),
            shifts[0, fits].tolist(),
            weights[fits].tolist(),
            strict=True,
        )
        for source, target, shift, weight in edges:
            before[source, shift:] += weight * after[target, : bins - shift]
        return
    for edge in np.flatnonzero(fits):
        shift = shifts[:, edge]
        taken = tuple(slice(s, None) for s in shift)
        left = tuple(slice(None, b + 1 - s) for s, b in zip(shift, shape, strict=True))
        before[(step.source[edge], *taken)] += weights[edge] * after[(step.target[edge], *left)]
