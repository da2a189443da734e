"""Operations of a space's networks: what the decisions choose, as nodes of a graph.

A *place* is a layer's call, or an operation between layers (`symnas.costs.learned.flow`). Places in
a row that depend on the same decisions, or on some of them, are one unit: a convolution, its norm
and its activation. So are alternatives of one decision, of which a network has one at a time. What
depends on no decision is no unit. Of units that repeat under the same decisions, as in the cells of
NAS-Bench-201, the first stands for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.learned.flow import SpaceFlow
from symnas.costs.learned.trace import INPUT, OUTPUT
from symnas.costs.pieces import Piece
from symnas.costs.scopes import NOTHING
from symnas.costs.structure import Columns, structure_of

# What the names of these say of a layer is no size of its tensors, whatever the number.
_FORM = {"kernel_size", "stride", "padding", "dilation", "output_size", "scale_factor", "p"}
_LEFT_OUT = {"training", "inplace"}


@attrs.frozen
class Unit:
    """Places, and the decisions that say what is there, of which each depends on some."""

    places: tuple[int, ...]
    scope: Columns


def units_of(flow: SpaceFlow) -> list[Unit]:
    """The units of a space's networks, sources first."""
    merging = _Merging(flow)
    merging.chains()
    merging.alternatives()
    seen: set[Any] = set()
    units = []
    for unit in merging.units():
        same = (unit.scope, tuple(variants(flow, unit)))
        if same not in seen:
            seen.add(same)
            units.append(unit)
    return units


def rows_of(flow: SpaceFlow, scope: Columns) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The values that decisions can have together: flat indices `(k,)`, and rows `(k, columns)`.

    Other decisions have none in these rows.
    """
    structure = structure_of(flow.space)
    at = np.argwhere(structure.reachable(scope))  # (k, decisions)
    rows = np.full((len(at), len(structure)), -1, np.int32)
    for axis, column in enumerate(scope):
        rows[:, column] = np.where(at[:, axis] == structure.sizes[column], -1, at[:, axis])
    return np.asarray(np.ravel_multi_index(tuple(at.T), structure.shape(scope))), rows


def pieces_of(flow: SpaceFlow, unit: Unit) -> list[list[Piece]]:
    """What stands at a unit's places for each value of its decisions, in the order of `rows_of`."""
    seen = flow.seen(rows_of(flow, unit.scope)[1], [flow.places[i] for i in unit.places])
    return [[flow.pieces[n] for n in column if n != NOTHING] for column in seen.T.tolist()]


def variants(flow: SpaceFlow, unit: Unit) -> list[tuple[str, ...]]:
    """The kinds of what stands there for each value of its decisions; `()` where nothing does."""
    return [tuple(kind_of(piece) for piece in pieces) for pieces in pieces_of(flow, unit)]


def kind_of(piece: Piece) -> str:
    """What a piece does, whatever the sizes of its tensors.

    >>> import symnas as sn
    >>> from symnas.costs.tabulate import pieces_of_space
    >>> space = sn.Space(sn.nn.Conv2d(4, sn.oneof([8, 16]), 3), input=(4, 5, 5))
    >>> {kind_of(p).partition(",")[0] for p in pieces_of_space(space).recorder.pieces if p.module}
    {'Conv2d(kernel_size=(3'}
    """
    module = piece.module
    if module is None:
        return piece.kind
    sizes = {1, *(n for t in piece.inputs + piece.outputs for n in t.shape[1:])}
    sizes.update(n for t in piece.parameters for n in t.shape[:2])
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or name in _LEFT_OUT:
            continue
        if isinstance(value, bool | str) or name in _FORM:
            plain = value if isinstance(value, bool | str | int | float | tuple) else None
        elif name == "groups":
            plain = "each" if value > 1 and value == getattr(module, "in_channels", 0) else value
            plain = None if plain == 1 else plain
        else:
            plain = value if isinstance(value, int | float) and value not in sizes else None
        if plain is not None and plain is not False:
            found.append(f"{name}={plain!r}")
    return f"{type(module).__name__}({', '.join(found)})"


def sizes_of(pieces: Iterable[Piece]) -> tuple[float, float, float, float]:
    """Elements that go into a unit, that come out of it, and its most; and its parameters: logs."""
    pieces = list(pieces)
    if not pieces:
        return 0.0, 0.0, 0.0, 0.0
    into = max((t.numel() for t in pieces[0].inputs), default=0)
    out = [max((t.numel() for t in p.outputs), default=0) for p in pieces]
    weights = sum(t.numel() for p in pieces for t in p.parameters)
    return math.log1p(into), math.log1p(out[-1]), math.log1p(max(out)), math.log1p(weights)


class _Merging:
    """A graph whose nodes are sets of places, and become fewer; it stays free of cycles."""

    def __init__(self, flow: SpaceFlow) -> None:
        self.flow = flow
        index = {place: i for i, place in enumerate(flow.places)}
        pairs = {(index[a], index[b]) for a, b in flow.flow.edges | flow.flow.cuts}
        self.direct = sorted(p for p in pairs if flow.scopes[p[0]] and flow.scopes[p[1]])
        ends = {index[INPUT], index[OUTPUT]}
        self.scopes = {i: s for i, s in enumerate(flow.scopes) if s or i in ends}
        self.members = {i: [i] for i in self.scopes if i not in ends}
        self.of = {i: i for i in self.scopes}
        self.before: dict[int, set[int]] = {i: set() for i in self.scopes}
        self.after: dict[int, set[int]] = {i: set() for i in self.scopes}
        into: list[set[int]] = [set() for _ in flow.places]
        for source, target in sorted(pairs, key=lambda pair: pair[1]):
            # What depends on no decision is passed through: its sources are handed on.
            into[target] |= {source} if source in self.scopes else into[source]
        for target in self.scopes:
            self.before[target] = into[target] - {target}
            for source in self.before[target]:
                self.after[source].add(target)

    def units(self) -> list[Unit]:
        found = [Unit(tuple(sorted(own)), self.scopes[i]) for i, own in self.members.items()]
        return sorted(found, key=lambda unit: unit.places[0])

    def chains(self) -> None:
        """Merges what stands in a row: first under the same decisions, then under some of them."""
        for nested in (False, True):
            again = True
            while again:
                again = False
                for source, target in self.direct:
                    a, b = self.of[source], self.of[target]
                    one, other = set(self.scopes[a]), set(self.scopes[b])
                    fits = (one <= other or other <= one) if nested else one == other
                    if a != b and fits and not self._detour(a, b):
                        self._merge(a, b)
                        again = True

    def alternatives(self) -> None:
        """Merges what stands between the same parts, never together, under nested decisions."""
        again = True
        while again:
            again = False
            for a, b in list(self._beside()):
                a, b = self.of[a], self.of[b]
                if a != b and self._exclude(a, b) and not self._path(a, b) and not self._path(b, a):
                    self._merge(a, b)
                    again = True

    def _beside(self) -> Iterator[tuple[int, int]]:
        for a, b in combinations(sorted(self.members), 2):
            one, other = set(self.scopes[a]), set(self.scopes[b])
            nested = one <= other or other <= one
            if nested and self.before[a] & self.before[b] and self.after[a] & self.after[b]:
                yield a, b

    def _exclude(self, a: int, b: int) -> bool:
        scope = max(self.scopes[a], self.scopes[b], key=len)
        present = self.flow.roles(rows_of(self.flow, scope)[1]).present
        together = present[self.members[a]].any(axis=0) & present[self.members[b]].any(axis=0)
        return not together.any()

    def _detour(self, a: int, b: int) -> bool:
        """Whether one reaches the other through others, so that merging would close a circle."""
        return any(c != b and self._path(c, b) for c in self.after[a])

    def _path(self, start: int, end: int) -> bool:
        waiting, seen = [start], {start}
        while waiting:
            node = waiting.pop()
            if node == end:
                return True
            new = self.after[node] - seen
            seen |= new
            waiting.extend(new)
        return False

    def _merge(self, a: int, b: int) -> None:
        """`b` becomes part of `a`."""
        self.scopes[a] = max(self.scopes[a], self.scopes[b], key=len)
        self.members[a] += self.members.pop(b)
        self.of = {place: a if own == b else own for place, own in self.of.items()}
        for one, other in ((self.before, self.after), (self.after, self.before)):
            for neighbour in one[b]:
                other[neighbour].discard(b)
                if neighbour != a:
                    other[neighbour].add(a)
            one[a] = (one[a] | one[b]) - {a, b}
