"""Which ways data take through an architecture: the operations from its input to its output.

In small graphs, as cells are, a way is a whole path from the input to the output, told by the
operations on it (White, Neiswanger and Savani 2021, "BANANAS", arXiv 1910.11858, Section 4.1); those
that only pass their input on are left out, so that what computes the same has the same ways. Paths
through deep networks are too many, and no two alike: there, ways are single operations, and two that
follow one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from symnas.predictors.flow_graphs import FlowGraphs
from symnas.predictors.graph_data import Graphs
from symnas.predictors.graphs import graphs_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

Rows = NDArray[np.int32]
Keys = NDArray[np.uint64]

# Operations of a space up to which whole paths are told.
SMALL = 8
# Graphs that are looked at, at once.
CHUNK = 65_536
INPUT, OUTPUT = 0, 1

_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


class Paths:
    """The ways in architectures of a space, as counts in sparse rows.

    Columns are given out as ways are met, so arrays of later calls may be wider. A way is told by 64
    bits; that two of a million share them has a probability of some 3e-8.

    Args:
        space: any; of one without input shape, the graph of calls is taken.

    >>> import symnas as sn
    >>> nn = sn.nn
    >>> layer = lambda: sn.oneof([nn.Conv2d(3, 3, 1), nn.Identity()])
    >>> space = sn.Space(nn.Sequential(layer(), layer(), nn.Flatten()), input=(3, 8, 8))
    >>> Paths(space)([[0, 1], [1, 0], [0, 0]]).toarray()  # an identity is no operation
    array([[0., 1.],
           [0., 1.],
           [1., 0.]], dtype=float32)
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: dict[int, int] = {}

    def __call__(self, rows: Rows) -> sparse.csr_matrix:
        """Counts, `(n, ways met so far)`."""
        rows = np.asarray(rows, np.int32).reshape(-1, len(self._space))
        parts = [self._told(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
        width = len(self._known)
        if not parts:
            return sparse.csr_matrix((0, width), dtype=np.float32)
        for part in parts:
            part.resize(part.shape[0], width)
        return sparse.vstack(parts, format="csr")

    def _told(self, rows: Rows) -> sparse.csr_matrix:
        graphs = graphs_of(self._space, rows)
        encode = self._space.derived["graphs"]
        flows = isinstance(encode, FlowGraphs)
        told = _told_apart(graphs.kinds)
        if flows and graphs.codes.shape[1] <= SMALL + 2:
            owner, key = _paths(graphs, told, encode.passing)
        else:
            owner, key = _pairs(graphs, told)
        different, at = np.unique(key, return_inverse=True)
        columns = [self._known.setdefault(int(k), len(self._known)) for k in different]
        column = np.array(columns, np.intp)[at.reshape(-1)]
        ones = np.ones(len(owner), np.float32)
        shape = (len(rows), len(self._known))
        return sparse.coo_matrix((ones, (owner, column)), shape=shape).tocsr()


def _paths(graphs: Graphs, told: Keys, passes: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Keys]:
    """The paths in all graphs: the graph and the key of each."""
    owners, keys = [np.zeros(0, np.intp)], [np.zeros(0, np.uint64)]
    flat = np.packbits(graphs.patterns.reshape(len(graphs.patterns), -1), axis=1)
    _, first, same = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    group = same.reshape(-1)[graphs.pattern]
    order = np.argsort(group, kind="stable")
    cuts = np.cumsum(np.bincount(group, minlength=len(first)))
    for members, pattern in zip(np.split(order, cuts[:-1]), first, strict=True):
        codes = graphs.codes[members]
        for path in paths_of(graphs.patterns[pattern]):
            owners.append(members)
            keys.append(_keys(codes[:, path], told, passes))
    return np.concatenate(owners), np.concatenate(keys)


def paths_of(adjacency: NDArray[np.bool_]) -> list[list[int]]:
    """The nodes on each path from the first node, the input, to the second, the output.

    >>> graph = np.zeros((4, 4), bool)
    >>> graph[0, 2] = graph[2, 3] = graph[3, 1] = graph[0, 3] = True
    >>> paths_of(graph)
    [[2, 3], [3]]
    """
    graph = networkx.DiGraph()
    graph.add_nodes_from([INPUT, OUTPUT])
    graph.add_edges_from(np.argwhere(adjacency).tolist())
    return [path[1:-1] for path in networkx.all_simple_paths(graph, INPUT, OUTPUT)]


def _pairs(graphs: Graphs, told: Keys) -> tuple[NDArray[np.intp], Keys]:
    """The operations in all graphs and the pairs of them: the graph and the key of each."""
    owner, node = np.nonzero(graphs.codes)
    single = told[graphs.codes[owner, node]]
    pattern, source, target = np.nonzero(graphs.patterns)
    # The edges of each graph are those of its pattern, which stand together.
    counts = np.bincount(pattern, minlength=len(graphs.patterns))
    of_graph = counts[graphs.pattern]
    starts = (np.cumsum(counts) - counts)[graphs.pattern]
    graph = np.repeat(np.arange(len(graphs)), of_graph)
    within = np.arange(len(graph)) - np.repeat(np.cumsum(of_graph) - of_graph, of_graph)
    edge = np.repeat(starts, of_graph) + within
    codes = np.stack([graphs.codes[graph, source[edge]], graphs.codes[graph, target[edge]]], axis=1)
    pairs = _keys(codes, told, np.zeros(len(told), bool))
    return np.concatenate([owner, graph]), np.concatenate([_mixed(single), pairs])


def _told_apart(kinds: NDArray[np.float32]) -> Keys:
    """A number for each kind of operation, by its features: `(kinds, features)` to `(kinds,)`."""
    factors = np.random.default_rng(0).integers(1, 2**63, kinds.shape[1], np.uint64) | np.uint64(1)
    return _mixed((kinds.view(np.uint32).astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64))


def _keys(codes: NDArray[np.intp], told: Keys, passes: NDArray[np.bool_]) -> Keys:
    """One number for the operations on a way, in their order: `(n, length)` to `(n,)`."""
    keys = np.full(len(codes), 1, np.uint64)
    for code in codes.T:
        keys = np.where(passes[code], keys, _mixed(keys ^ told[code]))
    return keys


def _mixed(keys: Keys) -> Keys:
    mixed = keys * _FACTOR
    return np.asarray(mixed ^ (mixed >> _SHIFT))
