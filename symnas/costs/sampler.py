"""Exact samples of the rows that keep limits: forwards through what a pass has found."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.independent import Independent
from symnas.costs.passes import Pass

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Check = Callable[[Rows], NDArray[np.bool_]]

# So many rows at once are worth laying out all choices beforehand, if these are not more than so many.
MANY_ROWS, MAX_CHOICES = 256, 6e7


@attrs.frozen(eq=False)
class _Choices:
    """One decision's choices, laid out so that a row is drawn by a few look-ups.

    Attributes:
        cells: how many slacks there are.
        width: the most edges of a state.
        cumulative: probabilities without the last, which is 1, `(states * cells, width - 1)`; with
            two edges `(1, states * cells)`.
        values, targets, shifts: of each edge, `(states * width,)`; slack is counted through all
            limits, so one number tells it.
    """

    cells: int
    width: int
    cumulative: Floats
    values: NDArray[np.int32]
    targets: NDArray[np.intp]
    shifts: NDArray[np.intp]

    @classmethod
    def of(cls, found: Pass, i: int, width: int) -> _Choices:
        step, shifts, weights = found.steps[i], found.shifts[i], found.weights[i]
        starts = np.searchsorted(step.source, np.arange(step.states))
        slot = np.arange(len(step.value)) - starts[step.source]
        sizes = tuple(bins + 1 for bins in found.shape)
        cells = math.prod(sizes)
        shares = np.zeros((step.states, width, *sizes))
        after = found.ahead[i + 1]
        fits = (shifts <= np.array(found.shape).reshape(-1, 1)).all(axis=0) & (weights > 0)
        for edge in np.flatnonzero(fits):
            taken = tuple(slice(s, None) for s in shifts[:, edge])
            left = tuple(slice(None, b - s) for s, b in zip(shifts[:, edge], sizes, strict=True))
            share = weights[edge] * after[(step.target[edge], *left)]
            shares[(step.source[edge], slot[edge], *taken)] = share
        cumulative = shares.reshape(step.states, width, cells).cumsum(axis=1)
        total = cumulative[:, -1:]
        cumulative = np.divide(cumulative, total, out=np.ones_like(cumulative), where=total > 0)
        strides = np.array([math.prod(sizes[k + 1 :]) for k in range(len(sizes))], np.int64)
        position = step.source * width + slot
        values = np.zeros(step.states * width, np.int32)
        targets, flat = np.zeros((2, step.states * width), np.intp)
        values[position], targets[position] = step.value, step.target
        flat[position] = strides @ shifts
        laid_out = cumulative[:, :-1].transpose(0, 2, 1).reshape(step.states * cells, width - 1)
        laid_out = np.ascontiguousarray(laid_out.T if width == 2 else laid_out)
        return cls(cells, width, laid_out, values, targets, flat)


class Sampler:
    """Draws rows from a distribution given that they keep the limits, exactly.

    Attributes:
        drawn, accepted: how many rows came from the trellis, and how many of them kept the limits.
    """

    def __init__(self, independent: Independent, found: Pass | None) -> None:
        self.independent = independent
        self.drawn = self.accepted = 0
        self._pass = found
        self._choices: list[_Choices] | None = None
        self._widest: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        if found is not None:
            for step in found.steps:
                counts = np.bincount(step.source, minlength=step.states)
                self._widest.append((np.cumsum(counts) - counts, counts))

    @property
    def possible(self) -> bool:
        """Whether any row may be feasible."""
        return self._pass is not None and self._pass.possible

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows, of which nearly all keep the limits: check them."""
        assert self._pass is not None
        rows = np.full((len(self.independent.structure), n), -2, np.int32)
        if self._choices is None and n >= MANY_ROWS:
            self._choices = self._prepared(self._pass)
        if self._choices:
            self._draw_prepared(rows, rng)
        else:
            self._draw_directly(rows, rng)
        return self.independent.sample(n, rng, np.ascontiguousarray(rows.T))

    def _prepared(self, found: Pass) -> list[_Choices]:
        """The choices at every state with every slack; an empty list where they are too many."""
        cells = math.prod(bins + 1 for bins in found.shape)
        widths = [int(counts.max(initial=0)) for _, counts in self._widest]
        needed = sum(s.states * w for s, w in zip(found.steps, widths, strict=True)) * cells
        if needed > MAX_CHOICES:
            return []
        return [_Choices.of(found, i, width) for i, width in enumerate(widths)]

    def _draw_prepared(self, rows: Rows, rng: np.random.Generator) -> None:
        assert self._pass is not None and self._choices is not None
        n = rows.shape[1]
        states = np.zeros(n, np.intp)
        left = np.full(n, math.prod(bins + 1 for bins in self._pass.shape) - 1, np.intp)
        aims = rng.random((len(self._choices), n))
        for choices, step, aim in zip(self._choices, self._pass.steps, aims, strict=True):
            index = states * choices.cells
            index += left
            states *= choices.width
            if choices.width == 2:
                states += choices.cumulative[0].take(index) <= aim
            elif choices.width > 2:
                passed = choices.cumulative.take(index, axis=0) <= aim[:, None]
                states += passed.sum(axis=1)
            choices.values.take(states, out=rows[step.column])
            left -= choices.shifts.take(states)
            states = choices.targets.take(states)

    def _draw_directly(self, by_column: Rows, rng: np.random.Generator) -> None:
        assert self._pass is not None
        found, n = self._pass, by_column.shape[1]
        states = np.zeros(n, np.intp)
        left = np.tile(np.array(found.shape, np.int64)[:, None], (1, n))
        for i, step in enumerate(found.steps):
            starts, counts = self._widest[i]
            width = int(counts[states].max(initial=0))
            offsets = np.arange(width)
            edges = starts[states][:, None] + offsets
            exists = offsets < counts[states][:, None]
            edges = np.where(exists, edges, 0)
            remaining = left[:, :, None] - found.shifts[i][:, edges]
            possible = exists & (remaining >= 0).all(axis=0)
            index = (step.target[edges], *np.maximum(remaining, 0))
            weights = np.where(possible, found.weights[i][edges] * found.ahead[i + 1][index], 0.0)
            cumulative = weights.cumsum(axis=1)
            aim = rng.random(n) * cumulative[:, -1]
            choice = (cumulative <= aim[:, None]).sum(axis=1)
            # Rounding may aim at the very end: never choose an edge that cannot be taken.
            last = width - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
            choice = np.minimum(choice, last)
            every = np.arange(n)
            taken = edges[every, choice]
            by_column[step.column] = step.value[taken]
            states = step.target[taken]
            left = remaining[:, every, choice]

    def sample(self, n: int, rng: np.random.Generator, check: Check, most: int) -> Rows:
        """Up to `n` rows that pass `check`; fewer if `most` in a row did not."""
        found: list[Rows] = []
        count = fruitless = 0
        while self.possible and count < n and fruitless < most:
            share = max(0.02, self.accepted / self.drawn if self.drawn else 0.9)
            size = min(65_536, math.ceil((n - count) / share * 1.05) + 4)
            rows = self.draw(size, rng)
            kept = rows[check(rows)]
            self.drawn += size
            self.accepted += len(kept)
            fruitless = 0 if len(kept) else fruitless + size
            found.append(kept)
            count += len(kept)
        width = len(self.independent.structure)
        return np.concatenate([np.empty((0, width), np.int32), *found])[:n]
