"""NAS-Bench-101: cells that are labelled graphs of at most seven vertices and nine edges.

C. Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019,
arXiv:1902.09635, Section 2. The network has the parameters of the published one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

import symnas as sn

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""What an interior vertex may do, under the published names."""


def edge_positions(vertices: int) -> list[tuple[int, int]]:
    """All pairs (from, to) with from < to, by `to`: the order of the decisions.

    >>> edge_positions(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(source, target) for target in range(1, vertices) for source in range(target)]


@attrs.frozen
class CellGraph:
    """A cell without the vertices that are on no path from its input to its output.

    Attributes:
        operations: of the interior vertices, in topological order.
        edges: pairs (from, to); vertex 0 is the input, the last one the output.
    """

    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def vertices(self) -> int:
        return len(self.operations) + 2

    def channels(self, out_channels: int) -> list[int]:
        """Output channels of each interior vertex, by index of vertex (0 for the input).

        The vertices that feed the output share its channels (the first ones get one more where
        that does not go up); any other has as many as the largest vertex that it feeds.
        """
        last = self.vertices - 1
        feeding = [v for v in range(1, last) if (v, last) in self.edges]
        channels = [0] * self.vertices
        for rank, v in enumerate(feeding):
            channels[v] = out_channels // len(feeding) + (rank < out_channels % len(feeding))
        for v in reversed(range(1, last)):
            if v not in feeding:
                channels[v] = max(channels[to] for source, to in self.edges if source == v)
        return channels


@functools.lru_cache(maxsize=65536)
def prune(edges: tuple[int, ...], operations: tuple[str, ...]) -> CellGraph | None:
    """The graph of a cell given by edge bits; None where the input does not reach the output.

    Args:
        edges: 0 or 1 for each of `edge_positions`.
        operations: of the interior vertices, pruned ones included.

    >>> prune((0, 1, 1), ("maxpool3x3",))  # vertex 1 has no input
    CellGraph(operations=(), edges=((0, 1),))
    """
    vertices = len(operations) + 2
    present = [e for e, bit in zip(edge_positions(vertices), edges, strict=True) if bit]
    reached = {0}
    for source, target in present:
        if source in reached:
            reached.add(target)
    if vertices - 1 not in reached:
        return None
    useful = {vertices - 1}
    for source, target in sorted(present, reverse=True):
        if target in useful:
            useful.add(source)
    kept = sorted(reached & useful)
    index = {v: i for i, v in enumerate(kept)}
    return CellGraph(
        operations=tuple(operations[v - 1] for v in kept[1:-1]),
        edges=tuple((index[s], index[t]) for s, t in present if s in index and t in index),
    )


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.003),
            nn.ReLU(),
        )


@sn.symbolize
class Cell(nn.Module):
    """A cell, `[B, in_channels, H, W]` to `[B, out_channels, H, W]`.

    The input reaches a vertex through a 1x1 projection to that vertex's channels; an interior
    vertex adds its inputs, cut to its channels; the output concatenates its interior inputs and
    adds the projected input. Pruned vertices have no parameters.

    Args:
        edges: 0 or 1 for each of `edge_positions`.
        operations: names of the interior vertices' operations.

    Raises:
        ValueError: the input does not reach the output.
    """

    def __init__(
        self, in_channels: int, out_channels: int, edges: Sequence[int], operations: Sequence[str]
    ) -> None:
        super().__init__()
        graph = prune(tuple(edges), tuple(operations))
        if graph is None:
            raise ValueError(
                f"`edges` ({list(edges)}) must connect the input with the output: this cell is not "
                "in the space (space.is_valid(rows) says which rows are)."
            )
        self.last = graph.vertices - 1
        self.width = graph.channels(out_channels)
        self.width[self.last] = out_channels
        self.sources = [
            [s for s, target in graph.edges if target == v] for v in range(graph.vertices)
        ]
        self.projections = nn.ModuleDict(
            {
                str(v): ConvBNReLU(in_channels, self.width[v], 1)
                for v in range(1, graph.vertices)
                if 0 in self.sources[v]
            }
        )
        self.operations = nn.ModuleList(
            _operation(name, self.width[v]) for v, name in enumerate(graph.operations, start=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for v, operation in enumerate(self.operations, start=1):
            inputs = [values[s][:, : self.width[v]] for s in self.sources[v] if s != 0]
            if 0 in self.sources[v]:
                inputs.append(self.projections[str(v)](x))
            values.append(operation(functools.reduce(torch.add, inputs)))
        parts = [values[s] for s in self.sources[self.last] if s != 0]
        if not parts:
            y: Tensor = self.projections[str(self.last)](x)
            return y
        y = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return y + self.projections[str(self.last)](x) if 0 in self.sources[self.last] else y


@sn.symbolize
class EdgeListCell(Cell):
    """A `Cell` given by the indices of its edges among `edge_positions`, as `manyof` picks them."""

    def __init__(
        self, in_channels: int, out_channels: int, chosen: Sequence[int], operations: Sequence[str]
    ) -> None:
        bits = edge_bits(chosen, len(operations) + 2)
        super().__init__(in_channels, out_channels, bits, operations)


def _operation(name: str, channels: int) -> nn.Module:
    if name == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    if name not in OPERATIONS:
        raise ValueError(f"`operations` has {name!r}; it must be one of {', '.join(OPERATIONS)}.")
    return ConvBNReLU(channels, channels, 1 if name == "conv1x1-bn-relu" else 3)


def edge_bits(chosen: Sequence[int], vertices: int) -> list[int]:
    """0 or 1 for each of `edge_positions`, from the indices of the edges that are present.

    >>> edge_bits([0, 2], 3)
    [1, 0, 1]
    """
    return [int(i in chosen) for i in range(vertices * (vertices - 1) // 2)]


def nasbench101(
    channels: int = 128,
    stacks: int = 3,
    cells: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    vertices: int = 7,
    max_edges: int = 9,
    edges: str = "bits",
    canonical: bool = True,
) -> sn.Space:
    """The space of NAS-Bench-101: one cell, repeated in all stacks of the network.

    With seven vertices and nine edges there are 423,624 different valid cells. `space.size` counts
    rows, valid or not, and each cell as often as it can be written.

    Args:
        channels: of the stem and the first stack; each further stack has twice as many.
        stacks: number of stacks; all but the first begin with a 2x2 max-pool.
        cells: cells in each stack.
        classes: number of outputs.
        resolution: height and width of the input in pixels.
        vertices: of the cell, input and output included (at most 7, published: 7).
        max_edges: that a valid cell has after pruning (published: 9).
        edges: "bits" is one decision an edge; "manyof" picks 1 to `max_edges` edges, a third as
            many rows, in which no edge beyond these can hide by being pruned.
        canonical: treat isomorphic cells as one architecture.

    Raises:
        ValueError: a number is out of range.

    >>> space = nasbench101(channels=8, stacks=2, cells=1)
    >>> len(space.columns), space.size == 2**21 * 3**5
    (26, True)
    """
    for name, value in (("channels", channels), ("stacks", stacks), ("cells", cells)):
        if value < 1:
            raise ValueError(f"`{name}` ({value}) must be at least 1.")
    if not 2 <= vertices <= 7:
        raise ValueError(f"`vertices` ({vertices}) must be from 2 to 7.")
    if edges not in ("bits", "manyof"):
        raise ValueError(f"`edges` ({edges!r}) must be 'bits' or 'manyof'.")
    if max_edges < 1:
        raise ValueError(f"`max_edges` ({max_edges}) must be at least 1.")
    if channels < vertices - 2:
        raise ValueError(
            f"`channels` ({channels}) must be at least {vertices - 2}: the vertices before the "
            "output share them."
        )
    if resolution < 2 ** (stacks - 1):
        raise ValueError(
            f"`resolution` ({resolution}) must be at least {2 ** (stacks - 1)} for {stacks} stacks."
        )

    bits, vertex = _names(vertices)

    def valid(architecture: sn.Architecture) -> bool:
        graph = graph_of(architecture, vertices)
        return graph is not None and len(graph.edges) <= max_edges

    def isomorphism(architecture: sn.Architecture) -> tuple[Any, ...] | None:
        graph = graph_of(architecture, vertices)
        return None if graph is None else isomorphism_class(graph)

    @sn.space(
        input=(3, resolution, resolution),
        valid=valid,
        canonical=isomorphism if canonical else None,
    )
    def nasbench101() -> Any:
        make: Any
        present: Any
        if edges == "bits":
            make, present = Cell, [sn.oneof([0, 1], name=name) for name in bits]
        else:
            counts = range(1, min(max_edges, len(bits)) + 1)
            subsets = [sn.manyof(k, range(len(bits)), sorted=True) for k in counts]
            make, present = EdgeListCell, sn.oneof(subsets, name="edges")
        operations = [sn.oneof(OPERATIONS, name=name) for name in vertex]
        layers: list[Any] = [_stem(channels)]
        before = channels
        for stack in range(stacks):
            if stack > 0:
                layers.append(sn.nn.MaxPool2d(2, stride=2))
            for _ in range(cells):
                width = channels * 2**stack
                layers.append(make(before, width, present, operations))
                before = width
        return sn.nn.Sequential(
            *layers, sn.nn.AdaptiveAvgPool2d(1), sn.nn.Flatten(), sn.nn.Linear(before, classes)
        )

    space: sn.Space = nasbench101()
    return space


def _stem(channels: int) -> Any:
    return sn.nn.Sequential(
        sn.nn.Conv2d(3, channels, 3, padding=1, bias=False),
        sn.nn.BatchNorm2d(channels, eps=1e-5, momentum=0.003),
        sn.nn.ReLU(),
    )


def graph_of(architecture: sn.Architecture, vertices: int = 7) -> CellGraph | None:
    """The pruned graph of an architecture of this space; None where it is not connected.

    `vertices` is that of the space: with it, the decisions are read instead of the program.
    """
    bits, vertex = _names(vertices)
    try:
        operations = tuple([architecture[name] for name in vertex])
        try:
            present = tuple([architecture[name] for name in bits])
        except KeyError:
            present = tuple(edge_bits(architecture["edges"], vertices))
    except KeyError:  # a program edited by hand
        cell = architecture.program.args[1]
        operations = tuple(cell.operations)
        given = cell.sym_init_args
        if "chosen" in given:
            return prune(tuple(edge_bits(given["chosen"], len(operations) + 2)), operations)
        return prune(tuple(given["edges"]), operations)
    return prune(present, operations)


@functools.cache
def _names(vertices: int) -> tuple[list[str], list[str]]:
    bits = [f"{target}<-{source}" for source, target in edge_positions(vertices)]
    return bits, [f"vertex {v}" for v in range(1, vertices - 1)]


@functools.lru_cache(maxsize=65536)
def isomorphism_class(graph: CellGraph) -> tuple[Any, ...]:
    """Equal for two graphs if and only if they are isomorphic: operations, and edges in order.

    Exact, not a hash: vertices are told apart by their iterated neighbourhoods, and of the orders
    that this leaves open (none, mostly) the one with the smallest edges is taken.

    >>> a = prune((1, 1, 0, 0, 1, 1), ("maxpool3x3", "conv1x1-bn-relu"))
    >>> b = prune((1, 1, 0, 0, 1, 1), ("conv1x1-bn-relu", "maxpool3x3"))
    >>> a == b, isomorphism_class(a) == isomorphism_class(b)
    (False, True)
    """
    interior = range(1, graph.vertices - 1)
    labels = ["", *graph.operations, "~"]
    into: list[list[int]] = [[] for _ in labels]
    out: list[list[int]] = [[] for _ in labels]
    for source, target in graph.edges:
        into[target].append(source)
        out[source].append(target)
    colors = _ranks([(label,) for label in labels])
    while True:
        refined = _ranks(
            [
                (colors[v], sorted(colors[s] for s in into[v]), sorted(colors[t] for t in out[v]))
                for v in range(graph.vertices)
            ]
        )
        if max(refined) == max(colors):
            break
        colors = refined
    classes: dict[int, list[int]] = {}
    for v in sorted(interior, key=colors.__getitem__):
        classes.setdefault(colors[v], []).append(v)
    best: tuple[tuple[int, int], ...] | None = None
    for orders in itertools.product(*(itertools.permutations(c) for c in classes.values())):
        place = {0: 0, graph.vertices - 1: graph.vertices - 1}
        place.update({v: i for i, v in enumerate(itertools.chain(*orders), start=1)})
        edges = tuple(sorted((place[s], place[t]) for s, t in graph.edges))
        if best is None or edges < best:
            best = edges
    in_order = itertools.chain(*classes.values())
    return (tuple(labels[v] for v in in_order), best)


def _ranks(signatures: list[Any]) -> list[int]:
    order = sorted(set(map(_hashable, signatures)))
    index = {signature: i for i, signature in enumerate(order)}
    return [index[_hashable(signature)] for signature in signatures]


def _hashable(signature: Any) -> Any:
    return tuple(tuple(part) if isinstance(part, list) else part for part in signature)
