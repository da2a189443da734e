"""Which ways data take through an architecture: the operations from its input to its output.

Where graphs are small, as cells are, a way is a whole path from the input to the output, told by the
operations on it (White, Neiswanger and Savani 2021, "BANANAS", arXiv 1910.11858, Section 4.1). Paths
through deep networks are too many, and no two alike: there, ways are single operations, and two and
three that follow one another. Operations that only pass their input on are left out, so that what
computes the same has the same ways.
"""

from __future__ import annotations

from collections.abc import Iterator
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

# Operations on a path, and paths of a graph, up to which whole paths are told.
LONGEST, MOST = 6, 64
# Operations that follow one another otherwise.
GRAM = 3
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
    array([[1., 0.],
           [1., 0.],
           [0., 1.]], dtype=float32)
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
        passes = encode.passing if flows else np.zeros(len(graphs.kinds), bool)
        told = _told_apart(graphs.kinds)
        owners, keys = [np.zeros(0, np.intp)], [np.zeros(0, np.uint64)]
        for members, ways in _alike(graphs, flows):
            codes = graphs.codes[members]
            for way in ways:
                owners.append(members)
                keys.append(_keys(codes[:, way], told, passes))
        owner, key = np.concatenate(owners), np.concatenate(keys)
        different, at = np.unique(key, return_inverse=True)
        columns = [self._known.setdefault(int(k), len(self._known)) for k in different]
        column = np.array(columns, np.intp)[at.reshape(-1)]
        ones = np.ones(len(owner), np.float32)
        shape = (len(rows), len(self._known))
        return sparse.coo_matrix((ones, (owner, column)), shape=shape).tocsr()


def _alike(graphs: Graphs, ends: bool) -> Iterator[tuple[NDArray[np.intp], list[list[int]]]]:
    """Architectures with the same edges, and the ways in them as lists of nodes."""
    flat = np.packbits(graphs.patterns.reshape(len(graphs.patterns), -1), axis=1)
    different, same = np.unique(flat, axis=0, return_inverse=True)
    pattern = same.reshape(-1)[graphs.pattern]
    # What is there without an edge, such as the one operation of a graph, is a way too.
    bits = np.concatenate([different[pattern], np.packbits(graphs.present, axis=1)], axis=1)
    _, first, group = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    cuts = np.cumsum(np.bincount(group.reshape(-1), minlength=len(first)))
    for members, row in zip(np.split(order, cuts[:-1]), first, strict=True):
        present = np.flatnonzero(graphs.codes[row])
        yield members, ways_of(graphs.patterns[graphs.pattern[row]], present.tolist(), ends)


def ways_of(adjacency: NDArray[np.bool_], present: list[int], ends: bool = True) -> list[list[int]]:
    """The ways through one graph, as lists of nodes.

    Args:
        adjacency: `(nodes, nodes)`.
        present: the nodes that are there.
        ends: whether the first node is the input and the second the output; else all are operations.

    >>> chain = np.zeros((4, 4), bool)
    >>> chain[0, 2] = chain[2, 3] = chain[3, 1] = chain[0, 3] = True
    >>> ways_of(chain, [0, 1, 2, 3])
    [[2, 3], [3]]
    """
    graph = networkx.DiGraph()
    graph.add_nodes_from(present)
    graph.add_edges_from(np.argwhere(adjacency).tolist())
    if ends:
        found: list[list[int]] = []
        for path in networkx.all_simple_paths(graph, INPUT, OUTPUT, cutoff=LONGEST + 2):
            found.append(path[1:-1])
            if len(found) > MOST:
                break
        if len(found) <= MOST and networkx.dag_longest_path_length(graph) <= LONGEST + 1:
            return found
        graph.remove_nodes_from([INPUT, OUTPUT])
    ways = grams = [[node] for node in graph]
    for _ in range(GRAM - 1):
        grams = [[*gram, node] for gram in grams for node in graph.successors(gram[-1])]
        ways = ways + grams
    return ways


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
