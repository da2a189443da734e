"""Rows as arrays for predictors, without building anything.

- "onehot": one column a candidate of each decision, one scaled column a float.
- "path": how often each part of a program stands in it wherever it stands: ids without list
  indices and branches, with the label. Blends repeated blocks, so it is short and generalises.
- "graph": the calls of the program as nodes of a directed graph, in a form for graph networks.
"""

from __future__ import annotations

import math
import random
import re
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.language.spec import Spec, layout
from symnas.searchspace import conditions as cond
from symnas.searchspace import nodes
from symnas.searchspace.decision import FLOAT_LEVELS

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

KINDS = ("onehot", "path", "graph")
# Values of an argument that are tried to find the largest.
SCALED = 4096


@attrs.frozen
class Graphs:
    """Programs as graphs of calls.

    Attributes:
        nodes: `(n, nodes, features)`: one-hot of the callable, then numeric arguments, scaled.
        adjacency: `(n, nodes, nodes)`: 1 from a call to the next one of its sequence, and from an
            argument to the call that takes it.
        present: `(n, nodes)`: which nodes the architecture has; absent ones are all zero.
        names: of the features.
    """

    nodes: NDArray[np.float32]
    adjacency: NDArray[np.float32]
    present: NDArray[np.bool_]
    names: tuple[str, ...]


def features(space: Space, rows: NDArray[Any], kind: str) -> Any:
    """Features of rows: `(n, features)` float32, or `Graphs`.

    >>> import symnas as sn
    >>> space = sn.Space([sn.oneof([3, 5, 7]), sn.floatv(0.0, 1.0)])
    >>> space.features(space.sample(2)).shape
    (2, 4)
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` ({kind!r}) must be one of {', '.join(map(repr, KINDS))}.")
    rows = np.asarray(rows, np.int32).reshape(len(rows), len(space))
    if kind == "onehot":
        return _onehot(space, rows)
    if kind == "path":
        return _paths(space, rows)
    return _graphs(space, rows)


def _onehot(space: Space, rows: NDArray[Any]) -> NDArray[np.float32]:
    parts = []
    for i, d in enumerate(space.decisions):
        values = rows[:, i : i + 1]
        if d.kind == "float":
            parts.append(np.where(values >= 0, values / (FLOAT_LEVELS - 1), 0.0))
        else:
            parts.append(values == np.arange(d.size))
    if not parts:
        return np.zeros((len(rows), 0), np.float32)
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")


def _paths(space: Space, rows: NDArray[Any]) -> NDArray[np.float32]:
    index: dict[tuple[str, str], int] = {}
    places = []
    for d in space.decisions:
        pattern = re.sub(r"\[=\d+/\d+\]", "", re.sub(r"\[\d+\]", "[]", d.id))
        labels = d.labels if d.kind != "float" else ("value",)
        places.append([index.setdefault((pattern, label), len(index)) for label in labels])
    result = np.zeros((len(rows), len(index)), np.float32)
    for i, d in enumerate(space.decisions):
        if d.kind == "float":
            result[:, places[i][0]] += np.where(rows[:, i] >= 0, rows[:, i] / (FLOAT_LEVELS - 1), 0)
            continue
        active = np.flatnonzero(rows[:, i] >= 0)
        result[active, np.array(places[i])[rows[active, i]]] += 1
    return result


@attrs.define
class _Vertex:
    target: str
    when: cond.Condition
    arguments: dict[str, Any]  # numeric arguments: a node, or a number


class _Graph:
    """The graph of all calls that a program may have; each architecture has some of them."""

    def __init__(self) -> None:
        self.vertices: list[_Vertex] = []
        self.edges: set[tuple[int, int]] = set()

    def visit(self, node: Any, when: cond.Condition) -> tuple[list[int], list[int]]:
        """Adds what is below; gives the vertices where data enters and where it leaves."""
        match node:
            case nodes.Const():
                return self._constant(node.constant, when)
            case nodes.Choice() | nodes.Subset():
                found = []
                for i, child in enumerate(node.candidates):
                    if isinstance(node, nodes.Choice):
                        values = frozenset([i])
                    else:
                        values = frozenset(j for j, s in enumerate(node.subsets) if i in s)
                    found.append(self.visit(child, cond.both(when, node.column, values)))
                return _joined(found)
            case nodes.Picks():
                parts = []
                for column, candidates in zip(node.columns, node.candidates, strict=True):
                    found = [
                        self.visit(child, cond.both(when, column, frozenset([i])))
                        for i, child in enumerate(candidates)
                    ]
                    parts.append(_joined(found))
                return self._chain(parts)
            case nodes.Repeated():
                parts = []
                counts = _counts(node)
                for i, block in enumerate(node.blocks):
                    active = cond.conjunction(when, [c for c, count in counts if count > i])
                    parts.append(self.visit(block, active))
                return self._chain(parts)
            case nodes.Call():
                arguments = [*((str(i), n) for i, n in enumerate(node.args)), *node.kwargs]
                return self._call(node.cls, arguments, when)
        return self._chain([self.visit(child, when) for child in nodes.children(node)])

    def _constant(self, value: Any, when: cond.Condition) -> tuple[list[int], list[int]]:
        if isinstance(value, Spec):
            args, kwargs = layout(value)
            arguments = [*((str(k[-1]), nodes.Const(v)) for k, v in args)]
            arguments += [(k, nodes.Const(v)) for k, v in kwargs.items()]
            return self._call(type(value), arguments, when)
        if isinstance(value, dict | list):
            items = value.values() if isinstance(value, dict) else value
            return self._chain([self._constant(v, when) for v in items])
        return [], []

    def _call(
        self, cls: type[Spec], arguments: list[tuple[str, Any]], when: cond.Condition
    ) -> tuple[list[int], list[int]]:
        inner = [(name, self.visit(n, when)) for name, n in arguments]
        parts = [found for _, found in inner if found[0] or found[1]]
        if cls.__name__ == "Sequential":
            return self._chain(parts)
        vertex = len(self.vertices)
        numeric = {
            name: n
            for (name, found), (_, n) in zip(inner, arguments, strict=True)
            if not (found[0] or found[1])
        }
        self.vertices.append(_Vertex(cls.__name__, when, numeric))
        for _, leaves in parts:
            self.edges.update((leaf, vertex) for leaf in leaves)
        entries = _joined(parts)[0] or [vertex]
        return entries, [vertex]

    def _chain(self, parts: list[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
        parts = [p for p in parts if p[0] or p[1]]
        for i, (_, leaves) in enumerate(parts):
            # A part that an architecture lacks is passed over: edges reach the parts behind it.
            for entries, _ in parts[i + 1 :]:
                self.edges.update((a, b) for a in leaves for b in entries)
        if not parts:
            return [], []
        return parts[0][0], parts[-1][1]


def _joined(parts: list[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
    """Entries and leaves of several parts together."""
    return [v for entry, _ in parts for v in entry], [v for _, leaf in parts for v in leaf]


def _counts(node: nodes.Repeated) -> list[tuple[cond.Clause, int]]:
    if isinstance(node.times, nodes.Choice):
        column = node.times.column
        return [
            ({column: frozenset([j])}, c.constant)
            for j, c in enumerate(node.times.candidates)
            if isinstance(c, nodes.Const)
        ]
    return [({}, len(node.blocks))]


def _of_space(space: Space) -> tuple[_Graph, list[str], list[str], Any]:
    """The graph of all calls, names of callables and of numeric arguments, and features' scale."""
    if "calls" not in space.derived:
        graph = _Graph()
        graph.visit(space._compiled.root, cond.ALWAYS)
        targets = sorted({v.target for v in graph.vertices})
        arguments = sorted({name for v in graph.vertices for name in v.arguments})
        sizes = [c.size for c in space._compiled.columns]
        scale = _scale(graph, arguments, len(targets), sizes)
        space.derived["calls"] = graph, targets, arguments, scale
    found: tuple[_Graph, list[str], list[str], Any] = space.derived["calls"]
    return found


def _graphs(space: Space, rows: NDArray[Any]) -> Graphs:
    graph, targets, arguments, scale = _of_space(space)
    sizes = [c.size for c in space._compiled.columns]
    names = (*targets, *arguments)
    n, m = len(rows), len(graph.vertices)
    present = np.zeros((n, m), bool)
    x = np.zeros((n, m, len(names)), np.float32)
    for k, vertex in enumerate(graph.vertices):
        present[:, k] = cond.holds(vertex.when, rows, sizes)
        x[:, k, targets.index(vertex.target)] = 1
        for name, node in vertex.arguments.items():
            column = len(targets) + arguments.index(name)
            x[:, k, column] = _numbers(node, rows, present[:, k])
    x *= present[:, :, None]
    x /= scale
    adjacency = np.zeros((n, m, m), np.float32)
    for a, b in sorted(graph.edges):
        adjacency[:, a, b] = present[:, a] & present[:, b]
    return Graphs(x, adjacency, present, names)


def _scale(graph: _Graph, arguments: list[str], targets: int, sizes: list[int]) -> Any:
    """The largest size of each feature in the space, so that a row's features are its own."""
    scale = np.ones(targets + len(arguments), np.float32)
    for k, name in enumerate(arguments):
        own = [_numbers_of(v.arguments[name], sizes) for v in graph.vertices if name in v.arguments]
        scale[targets + k] = max((abs(n) for found in own for n in found), default=0) or 1
    return scale


def _numbers_of(node: Any, sizes: list[int]) -> list[float]:
    """The numbers that an argument can be; some of them, where they are very many."""
    columns = sorted(nodes.columns_of(node))
    shape = [sizes[c] if sizes[c] < FLOAT_LEVELS else 2 for c in columns]
    total = math.prod(shape)
    rng = random.Random(0)
    picked = range(total) if total <= SCALED else [rng.randrange(total) for _ in range(SCALED)]
    found = []
    for at in picked:
        row = [-1] * len(sizes)
        for column, size in zip(columns, shape, strict=True):
            at, value = divmod(at, size)
            row[column] = value if size == sizes[column] else value * (sizes[column] - 1)
        try:
            value = node.value(row, nodes.PROGRAM)
        except Exception:  # decisions that are never made together
            continue
        if isinstance(value, bool | int | float):
            found.append(float(value))
    return found


def _numbers(node: Any, rows: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A numeric argument's value in each row; 0 for what is no number."""
    columns = sorted(nodes.columns_of(node))
    result = np.zeros(len(rows), np.float32)
    if not present.any():
        return result
    where = np.flatnonzero(present)
    distinct, inverse = np.unique(rows[where][:, columns], axis=0, return_inverse=True)
    values = np.zeros(len(distinct), np.float32)
    row = [-1] * rows.shape[1]
    for k, picked in enumerate(distinct.tolist()):
        for column, v in zip(columns, picked, strict=True):
            row[column] = v
        value = node.value(row, nodes.PROGRAM)
        number = isinstance(value, bool | int | float)
        values[k] = float(value) if number else 0.0
    result[where] = values[inverse.reshape(-1)]
    return result
