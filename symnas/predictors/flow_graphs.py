"""Graphs of operations, from the flow of data in the networks of a space.

Edges lead past what depends on no decision, and past what an architecture lacks. One is redundant
where it leads past an operation that lies on another way between its ends. It is dropped where it
says nothing, as what operations there are decides on it: a chain of residual blocks is a chain.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.learned.flow import flow_of_space
from symnas.costs.learned.trace import INPUT, OUTPUT
from symnas.costs.structure import Columns, structure_of
from symnas.predictors.graph_data import Bools, Graphs, Ints, Rows, context_of
from symnas.predictors.units import pieces_of, rows_of, sizes_of, units_of, variants

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

# Networks that are looked at, and mutations of each, to tell which edges say nothing.
SAMPLED, MUTATIONS = 256, 6
# Ways of data flow that are worked out at once.
CHUNK = 2048
# Ways of data flow that are kept, as a search asks for the like of what it has seen.
KEPT = 4096
SIZES = ("log input", "log output", "log largest", "log parameters")


class FlowGraphs:
    """Graphs of operations, from the flow of data in the networks of a space.

    Attributes:
        names: of the nodes: the decisions that each depends on; first the input, then the output.
        features: names of the columns of `Graphs.kinds`.

    Raises:
        TooCoupled: the flow cannot be told from single decisions.
    """

    def __init__(self, space: Space) -> None:
        self._flow = flow = flow_of_space(space)
        self._units = units_of(flow)
        self._structure = structure_of(space)
        self.names = ["input", "output"] + [
            ", ".join(space.decisions[c].name or space.columns[c] for c in unit.scope)
            for unit in self._units
        ]
        self._describe()
        self._shown = {c for unit in self._units for c in unit.scope}
        self._of = {i: u + 2 for u, unit in enumerate(self._units) for i in unit.places}
        self._of[flow.places.index(INPUT)], self._of[flow.places.index(OUTPUT)] = 0, 1
        self._classify()
        self._find_silent(space.sample(SAMPLED))
        self._kept: dict[int, tuple[Bools, Bools]] = {}

    def _describe(self) -> None:
        """The kinds of nodes, and for each unit which of them its decisions make it."""
        flow = self._flow
        variants_ = [variants(flow, unit) for unit in self._units]
        does = sorted({v for found in variants_ for v in found if v})
        self.features = ["input", "output", *(" + ".join(v) for v in does), *SIZES]
        rows: list[list[float]] = [[0.0] * (len(does) + 6)]
        for end in (INPUT, OUTPUT):
            rows.append([float(end == INPUT), float(end == OUTPUT), *[0.0] * (len(does) + 4)])
        index: dict[tuple[float, ...], int] = {}
        self._codes: list[Ints] = []
        for unit, found in zip(self._units, variants_, strict=True):
            at, _ = rows_of(flow, unit.scope)
            codes = np.zeros(self._structure.entries(unit.scope), np.intp)
            for place, variant, pieces in zip(at, found, pieces_of(flow, unit), strict=True):
                if variant:
                    own = [float(variant == v) for v in does]
                    row = [0.0, 0.0, *own, *sizes_of(pieces)]
                    codes[place] = index.setdefault(tuple(row), len(index) + 3)
            self._codes.append(codes)
        kinds = np.array(rows + [list(row) for row in index], np.float32)
        sizes = kinds[3:, -len(SIZES) :]
        low, high = sizes.min(axis=0, initial=np.inf), sizes.max(axis=0, initial=0)
        varies = high > low
        sizes[:, varies] /= high[varies]
        # A size that all nodes share says nothing.
        kept = np.append(np.ones(kinds.shape[1] - len(SIZES), bool), varies)
        self._kinds = kinds[:, kept]
        self.features = [name for name, keep in zip(self.features, kept, strict=True) if keep]

    @cached_property
    def passing(self) -> Bools:
        """Which kinds of nodes only pass their input on, `(kinds,)`."""
        found = np.zeros(len(self._kinds), bool)
        for unit, codes in zip(self._units, self._codes, strict=True):
            at, rows = rows_of(self._flow, unit.scope)
            roles, places = self._flow.roles(rows), list(unit.places)
            found[codes[at]] = (roles.passing[places] | ~roles.present[places]).all(axis=0)
        found[:3] = False
        return found

    def _classify(self) -> None:
        """For each group of decisions, which of their values make the data flow alike."""
        self._classes: list[tuple[Columns, Ints]] = []
        for scope in sorted({s for s in self._flow.scopes if s}):
            places = [i for i, own in enumerate(self._flow.scopes) if own == scope]
            at, rows = rows_of(self._flow, scope)
            roles = np.concatenate([role[places] for role in self._flow.roles(rows)])
            classes = np.zeros(self._structure.entries(scope), np.intp)
            classes[at] = np.unique(roles, axis=1, return_inverse=True)[1].reshape(-1)
            if classes.any():
                self._classes.append((scope, classes))
        rng = np.random.default_rng(0)
        self._keys = rng.integers(1, 2**63, len(self._classes), np.uint64) | np.uint64(1)

    def _at(self, columns: NDArray[np.int32], scope: Columns) -> Ints:
        """The flat index of each row into a table over decisions; `columns` are `(columns, n)`."""
        at = np.zeros(columns.shape[1], np.intp)
        for c in scope:
            axis = self._structure.axes[c]
            at *= axis
            at += np.where(columns[c] < 0, axis - 1, columns[c])
        return at

    def __call__(self, space: Space, rows: Rows) -> Graphs:
        """The graphs of rows, `(n, columns)`."""
        columns = np.ascontiguousarray(rows.T)
        # Rows whose data flow alike share an adjacency. Which do, is told by a sum of large random
        # numbers, as tables over all decisions would be too large.
        flows = np.zeros(len(rows), np.uint64)
        for key, (scope, classes) in zip(self._keys, self._classes, strict=True):
            values = classes.astype(np.uint64) * key
            flows += (values ^ (values >> np.uint64(29)))[self._at(columns, scope)]
        keys, first, pattern = np.unique(flows, return_index=True, return_inverse=True)
        patterns, live = self._kept_patterns(keys.tolist(), rows[first])
        codes = np.empty((len(rows), len(self.names)), np.intp)
        codes[:, :2] = 1, 2
        for u, unit in enumerate(self._units):
            codes[:, u + 2] = self._codes[u][self._at(columns, unit.scope)]
        pattern = pattern.reshape(-1)
        codes *= live[pattern]
        return Graphs(self._kinds, codes, patterns, pattern, context_of(space, rows, self._shown))

    # Flow -------------------------------------------------------------------------------------

    def _kept_patterns(self, keys: list[int], rows: Rows) -> tuple[Bools, Bools]:
        """Adjacency without what is redundant, and effect, of rows whose data flow has these keys."""
        new = [i for i, key in enumerate(keys) if key not in self._kept]
        adjacency, live = self._patterns(rows[new])
        adjacency = self._without_redundant(adjacency)
        if len(new) == len(keys) > KEPT:
            return adjacency, live
        found = {keys[i]: (adjacency[k], live[k]) for k, i in enumerate(new)}
        both = [found[key] if key in found else self._kept[key] for key in keys]
        if len(self._kept) + len(found) > KEPT:
            self._kept.clear()
        if len(found) <= KEPT:
            # Copies, as a view would keep all that was worked out with it.
            self._kept.update((key, (a.copy(), b.copy())) for key, (a, b) in found.items())
        if not both:
            return adjacency, live
        return np.stack([a for a, _ in both]), np.stack([b for _, b in both])

    def _patterns(self, rows: Rows) -> tuple[Bools, Bools]:
        """Adjacency `(n, nodes, nodes)` and which nodes have an effect, `(n, nodes)`."""
        found = [self._flows(rows[i : i + CHUNK]) for i in range(0, max(1, len(rows)), CHUNK)]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _flows(self, rows: Rows) -> tuple[Bools, Bools]:
        flow, n, m = self._flow, len(rows), len(self.names)
        effect = flow.effect(rows)
        adjacency, live = np.zeros((n, m, m), bool), np.zeros((n, m), bool)
        live[:, :2] = True
        last: list[NDArray[np.uint8]] = []  # the nodes whose results come to a place, as bits
        width = (m + 7) // 8
        for i, place in enumerate(flow.places):
            coming = np.zeros((n, width), np.uint8)
            for j, taken in flow.into(i, effect.present):
                coming |= last[j] * taken[:, None]
            here = effect.used[i] & effect.fed[i]
            if place in (INPUT, OUTPUT):
                here = np.ones(n, bool)
            node = self._of.get(i)
            if node is not None:
                own = np.zeros(m, bool)
                own[node] = True
                live[:, node] |= here
                taken_from = np.unpackbits(coming, axis=1, count=m).astype(bool)
                adjacency[:, :, node] |= taken_from & here[:, None] & ~own
                coming = np.broadcast_to(np.packbits(own), coming.shape)
            last.append(coming * here[:, None])
        return adjacency, live

    def _find_silent(self, rows: Rows) -> None:
        """Finds edges that one decision never makes or breaks while all nodes stay."""
        self._silent = np.zeros((len(self.names),) * 2, bool)
        adjacency, live = self._patterns(rows)
        if not (_past(adjacency) & adjacency).any():
            return
        self._silent[:] = True
        for seed in range(MUTATIONS):
            changed, still = self._patterns(self._flow.space.mutate(rows, seed))
            same = (live == still).all(axis=1)
            self._silent &= (adjacency == changed)[same].all(axis=0)

    def _without_redundant(self, adjacency: Bools) -> Bools:
        if not self._silent.any():
            return adjacency
        return adjacency & ~(self._silent & _past(adjacency))


def _past(adjacency: Bools) -> Bools:
    """From where to where there is a way over at least one other node: `(n, nodes, nodes)`."""
    step = adjacency.astype(np.float32)
    reach, length = step, 1
    while length < adjacency.shape[1]:
        reach = np.minimum(reach + reach @ reach, 1)
        length *= 2
    return (step @ reach) > 0
