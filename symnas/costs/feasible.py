"""Rows that keep limits on costs: their share of a space, and exact samples of them.

Both are passes over a trellis in which a state also carries the slack that is left, in bins. The
smallest cost of completing a path is exact and taken off first, so only what exceeds it is rounded:
down, and no feasible row is lost (an upper bound; samples are checked afterwards, which keeps their
distribution exact); up, and no infeasible row gets in (a lower bound). Where all costs are whole
multiples of a bin, both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.independent import Independent
from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import Structure
from symnas.costs.table import CostTable, Term
from symnas.costs.trellis import Step, Trellis

Rows = NDArray[np.int32]
Floats = NDArray[np.float64]
Check = Callable[[Rows], NDArray[np.bool_]]

# Bins for shares and for samples; with several limits, so many in all.
SHARE_BINS, SAMPLE_BINS, MANY_BINS = 10_000, 1_000, 10_000
BINS_A_DECISION = 20
# Work (edges times bins) and memory (states times bins) that are not exceeded: fewer bins then.
MAX_WORK, MAX_CELLS = 4e8, 6e7
# So many rows at once are worth laying out all choices beforehand.
MANY_ROWS = 256
# Rounding of sums of floats, in bins.
ROUNDING = 1e-6


@attrs.frozen(eq=False)
class Limit:
    """`table(row) <= most`, or `<` if strict."""

    table: CostTable
    most: float
    strict: bool = False

    @property
    def columns(self) -> set[int]:
        """The decisions that matter."""
        return set(self.table.columns)


@attrs.frozen(eq=False)
class Ceiling:
    """The largest of some terms, each by itself, is at most `most`: that needs no bins."""

    terms: tuple[Term, ...]
    most: float

    @property
    def columns(self) -> set[int]:
        """The decisions that matter."""
        return {column for term in self.terms for column in term.columns}


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
        low = _Pass(self, independent, shape, round_up=True)
        lower = torch.tensor(low.total, dtype=torch.float64)
        if independent.differentiable:
            for column, gradient in low.gradients().items():
                given = independent.given.get(column)
                if given is not None and given.requires_grad:
                    lower = lower + ((given - given.detach()) * torch.from_numpy(gradient)).sum()
        if self._is_exact(shape):
            return lower, lower.detach().clone()
        high = _Pass(self, independent, shape, round_up=False)
        return lower, torch.tensor(min(1.0, high.total), dtype=torch.float64)

    def sampler(self, independent: Independent, bins: int | None = None) -> Sampler:
        """Draws feasible rows from a distribution."""
        # Each decision loses up to a bin to rounding down.
        own = max(SAMPLE_BINS, BINS_A_DECISION * len(self._trellis.steps))
        shape = self._shape(bins or own, MANY_BINS)
        return Sampler(
            self,
            independent,
            None if self.empty else _Pass(self, independent, shape, round_up=False),
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


class _Pass:
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
    def of(cls, found: _Pass, i: int, width: int) -> _Choices:
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

    def __init__(self, feasible: Feasible, independent: Independent, found: _Pass | None) -> None:
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

    def _prepared(self, found: _Pass) -> list[_Choices]:
        """The choices at every state with every slack; an empty list where they are too many."""
        cells = math.prod(bins + 1 for bins in found.shape)
        widths = [int(counts.max(initial=0)) for _, counts in self._widest]
        needed = sum(s.states * w for s, w in zip(found.steps, widths, strict=True)) * cells
        if needed > MAX_CELLS:
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


def _tiny(limits: Sequence[Limit]) -> float:
    return 1e-9 * max((abs(limit.most) for limit in limits), default=1.0)
