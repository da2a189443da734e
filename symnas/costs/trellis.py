"""A trellis over decisions: all rows of a space as paths, costs on the edges.

The decisions that costs depend on are taken in an order. A state is what earlier decisions still
matter for later costs and conditions; an edge is a value of the next decision, with the cost of
the tables that are complete then. Sums over all rows become passes over the edges (dynamic
programming), whose number grows with the decisions that are coupled at a time, not with the space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.scopes import TooCoupled
from symnas.costs.structure import Columns, Structure
from symnas.costs.table import CostTable, Term
from symnas.searchspace.count import allowed

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MAX_EDGES = 1_500_000


@attrs.frozen(eq=False)
class Step:
    """One decision: edges from the states before it to those after it, ordered by source.

    Attributes:
        column: the decision.
        source, target: states, `(edges,)`.
        value: of the decision, -1 where it is inactive, `(edges,)`.
        costs: of each table, `(tables, edges)`.
        peaks: of each set of terms, the largest of those that are complete then,
            `(sets, edges)`.
        states: how many there are before it.
    """

    column: int
    source: Indices
    target: Indices
    value: NDArray[np.int32]
    costs: Floats
    peaks: Floats
    states: int

    def kept(self, mask: NDArray[np.bool_]) -> Step:
        """The step with only some of its edges."""
        return Step(
            self.column,
            self.source[mask],
            self.target[mask],
            self.value[mask],
            self.costs[:, mask],
            self.peaks[:, mask],
            self.states,
        )


@attrs.frozen(eq=False)
class Trellis:
    """Paths through the decisions on which some tables depend.

    Attributes:
        steps: the decisions, in order; the last leads to one state.
        biases: of each table, `(tables,)`.
    """

    steps: tuple[Step, ...]
    biases: Floats

    @property
    def columns(self) -> list[int]:
        """The decisions, in order."""
        return [step.column for step in self.steps]

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return sum(len(step.value) for step in self.steps)

    @classmethod
    def of(
        cls,
        structure: Structure,
        tables: Sequence[CostTable],
        maxima: Sequence[Sequence[Term]] = (),
        also: Iterable[int] = (),
    ) -> Trellis:
        """The trellis of some tables.

        Args:
            structure: of the space.
            tables: whose costs the edges carry.
            maxima: further sets of terms, of which the largest counts rather than the sum.
            also: further columns to be included.

        Raises:
            TooCoupled: too many decisions matter at once.
        """
        builder = _Builder(structure, tables, maxima, also)
        return cls(builder.steps(), np.array([table.bias for table in tables]))

    def below(self, most: Sequence[float]) -> Trellis:
        """The paths on which no maximum exceeds its limit in `most`."""
        limits = np.asarray(most, np.float64)[:, None]
        steps = tuple(step.kept(np.all(step.peaks <= limits, axis=0)) for step in self.steps)
        return Trellis(steps, self.biases)

    def least(self, weights: Sequence[float] | Floats) -> list[Floats]:
        """The smallest weighted cost of completing a path, for the states before each step."""
        after = np.zeros(1)
        result = [after]
        factors = np.asarray(weights, np.float64)
        for step in reversed(self.steps):
            before = np.full(step.states, np.inf)
            np.minimum.at(before, step.source, factors @ step.costs + after[step.target])
            result.append(before)
            after = before
        return result[::-1]

    def cheapest(self, weights: Sequence[float]) -> tuple[float, dict[int, int]]:
        """The smallest weighted cost of all paths and the values of a path that has it."""
        least = self.least(weights)
        factors = np.asarray(weights, np.float64)
        state, values = 0, {}
        for step, after in zip(self.steps, least[1:], strict=True):
            edges = np.flatnonzero(step.source == state)
            totals = factors @ step.costs[:, edges] + after[step.target[edges]]
            best = edges[totals.argmin()]
            values[step.column] = int(step.value[best])
            state = int(step.target[best])
        return float(least[0][0] + factors @ self.biases), values


class _Builder:
    def __init__(
        self,
        structure: Structure,
        tables: Sequence[CostTable],
        maxima: Sequence[Sequence[Term]],
        also: Iterable[int],
    ) -> None:
        self.structure = structure
        self.terms: list[tuple[int, Term]] = [
            (k, term) for k, table in enumerate(tables) for term in table.terms
        ]
        self.n_tables = len(tables)
        self.parts = [(k, term) for k, terms in enumerate(maxima) for term in terms]
        self.n_maxima = len(maxima)
        scopes = [term.columns for _, term in (*self.terms, *self.parts)]
        columns = {c for scope in scopes for c in scope} | set(also)
        self.rules = [rule for rule in structure.rules if set(rule.columns) & columns]
        for rule in self.rules:
            columns.update(rule.columns)
        self.columns = structure.closed(columns)
        factors = {frozenset(scope) for scope in scopes}
        factors |= {frozenset({c, *structure.parents[c]}) for c in self.columns}
        factors |= {frozenset(rule.columns) for rule in self.rules}
        self.factors = [factor for factor in factors if len(factor) > 1]
        self.of_column: dict[int, list[frozenset[int]]] = {c: [] for c in self.columns}
        for factor in self.factors:
            for column in factor:
                self.of_column[column].append(factor)

    # Order ------------------------------------------------------------------------------------

    def order(self) -> list[int]:
        """Parents first, along the network, so that few states are in between.

        Of the decisions that are left, those that only hang together with ones that are done are
        finished first, the smallest group of them; within a group, that decision is next which
        leaves the fewest states. The order starts at an end of the network: both are tried.
        """
        order: list[int] = []
        for component in self._groups(set(self.columns)):
            starts = self._ends(component)
            tried = [self._from(start, component, set(order)) for start in starts]
            order += min(tried)[1]
        return order

    def _from(self, start: int, component: set[int], before: set[int]) -> tuple[int, list[int]]:
        """The order of a component from a start, and about how many edges it makes."""
        done, left, order, edges = set(before), set(component), list[int](), 0
        frontier: set[int] = set()
        while left:
            if order:
                groups = [g for g in self._groups(left) if self._touches(g, done)]
                ready = [
                    c
                    for c in (groups[0] if groups else left)
                    if self.structure.parents[c] <= done and self._touches({c}, done)
                ]
            else:
                ready = [start]
            ready = ready or [c for c in left if self.structure.parents[c] <= done]
            best = min(ready, key=lambda c: (*self._size(c, done, frontier), c))
            edges += math.prod(self.structure.axes[c] for c in frontier | {best})
            done.add(best)
            left.remove(best)
            order.append(best)
            frontier = {c for c in frontier | {best} if self._open(c, done)}
        return edges, order

    def _size(self, column: int, done: set[int], frontier: set[int]) -> tuple[int, int]:
        after = done | {column}
        size = 1
        for c in frontier | {column}:
            if self._open(c, after):
                size *= self.structure.axes[c]
        # Of two that leave equally many states, the one that is closest to completing a table.
        missing = min((len(f - after) for f in self.of_column[column]), default=0)
        return size, missing

    def _open(self, column: int, done: set[int]) -> bool:
        return any(not factor <= done for factor in self.of_column[column])

    def _touches(self, columns: set[int], done: set[int]) -> bool:
        return any(factor & done for c in columns for factor in self.of_column[c])

    def _groups(self, columns: set[int]) -> list[set[int]]:
        """Columns by what hangs together without any other column, the smallest group first."""
        left = set(columns)
        groups = []
        while left:
            start = min(left)
            group, queue = {start}, [start]
            while queue:
                for factor in self.of_column[queue.pop()]:
                    new = (factor & left) - group
                    group |= new
                    queue.extend(new)
            left -= group
            groups.append(group)
        return sorted(groups, key=lambda g: (len(g), min(g)))

    def _ends(self, component: set[int]) -> list[int]:
        """Two columns that are far from one another, or the one that decides about theirs."""
        first = self._farthest(min(component), component)
        ends = {first, self._farthest(first, component)}
        roots = {min(self.structure.ancestors[end] & component, default=end) for end in ends}
        return sorted(r for r in roots if not self.structure.parents[r] & component)

    def _farthest(self, start: int, component: set[int]) -> int:
        distance, layer = {start: 0}, [start]
        while layer:
            following = []
            for column in layer:
                for other in sorted(set[int]().union(*self.of_column[column]) - distance.keys()):
                    distance[other] = distance[column] + 1
                    following.append(other)
            layer = following
        return max(distance, key=lambda c: (distance[c], -c))

    # Steps ------------------------------------------------------------------------------------

    def steps(self) -> tuple[Step, ...]:
        order = self.order()
        position = {column: i for i, column in enumerate(order)}
        done: set[int] = set()
        frontier: Columns = ()
        states = np.empty((1, 0), np.int32)
        steps: list[Step] = []
        edges = 0
        for column in order:
            done.add(column)
            source, value = self._edges(column, frontier, states)
            edges += len(value)
            if edges > MAX_EDGES:
                raise TooCoupled(
                    f"more than {MAX_EDGES:,} transitions between decisions: the costs couple too "
                    "many of them at once"
                )
            known = dict(zip(frontier, states[source].T, strict=True))
            known[column] = value
            costs = np.zeros((self.n_tables, len(value)))
            for k, term in self.terms:
                if max(term.columns, key=position.__getitem__) == column:
                    costs[k] += _lookup(term, known)
            peaks = np.full((self.n_maxima, len(value)), -np.inf)
            for k, term in self.parts:
                if max(term.columns, key=position.__getitem__) == column:
                    np.maximum(peaks[k], _lookup(term, known), out=peaks[k])
            mask = np.ones(len(value), bool)
            for rule in self.rules:
                if column in rule.columns:
                    mask &= self._allowed(rule, known)
            following = tuple(sorted(c for c in {*frontier, column} if self._open(c, done)))
            after = np.stack([known[c] for c in following], 1) if following else None
            if after is None:
                new_states, target = np.empty((1, 0), np.int32), np.zeros(len(value), np.intp)
            else:
                new_states, target = _distinct(after)
            step = Step(column, source, target, value, costs, peaks, len(states))
            steps.append(step if mask.all() else step.kept(mask))
            frontier, states = following, new_states
        return tuple(steps)

    def _edges(
        self, column: int, frontier: Columns, states: NDArray[np.int32]
    ) -> tuple[Indices, NDArray[np.int32]]:
        size = self.structure.sizes[column]
        active = np.ones(len(states), bool)
        if self.structure.conditional[column]:
            active[:] = False
            for clause in self.structure.conditions[column]:
                met = np.ones(len(states), bool)
                for parent, values in clause.items():
                    met &= np.isin(states[:, frontier.index(parent)], list(values))
                active |= met
        counts = np.where(active, size, 1)
        source = np.repeat(np.arange(len(states)), counts)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        value = (np.arange(len(source)) - starts).astype(np.int32)
        value[~active[source]] = -1
        return source, value

    def _allowed(self, rule: object, known: dict[int, NDArray[np.int32]]) -> NDArray[np.bool_]:
        """Which edges keep to the rule of a `manyof`, as far as its picks are known."""
        picks = [known[c] for c in rule.columns if c in known]  # type: ignore[attr-defined]
        if len(picks) < 2:
            return np.ones(len(picks[0]), bool)
        table = np.stack(picks, 1).tolist()
        return np.array([allowed([v for v in row if v >= 0], rule) for row in table])  # type: ignore[arg-type]


def _lookup(term: Term, known: dict[int, NDArray[np.int32]]) -> Floats:
    values: Floats = term.values[tuple(known[c] for c in term.columns)]
    return values


def _distinct(states: NDArray[np.int32]) -> tuple[NDArray[np.int32], Indices]:
    """Distinct rows, and which of them each row is."""
    widths = states.max(axis=0).astype(np.int64) + 2
    codes = np.zeros(len(states), np.int64)
    for column, width in zip(states.T, widths, strict=True):
        codes = codes * width + (column + 1)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return states[first], inverse.astype(np.intp)
