"""Architectures as graphs of operations, for graph networks: of any space, for many rows at once.

Nodes are the operations that decisions choose (`symnas.predictors.units`), between one node for the
input and one for the output of the network. What depends on no decision is left out, and edges lead
past it. So is what has no effect: operations whose result goes nowhere, or is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from symnas.costs.scopes import TooCoupled
from symnas.predictors.flow_graphs import FlowGraphs
from symnas.predictors.graph_data import Graphs, Rows, context_of

if TYPE_CHECKING:
    from symnas.searchspace.space import Space

__all__ = ["FlowGraphs", "Graphs", "SpecGraphs", "graphs_of"]


class SpecGraphs:
    """Graphs of the calls in programs, where the flow of data cannot be told.

    Wiring that `forward` does, and all else that calls do not show, stays in `Graphs.context`,
    which has all decisions here.
    """

    def __call__(self, space: Space, rows: Rows) -> Graphs:
        found = space.features(rows, "graph")
        n, m, width = found.nodes.shape
        x = np.concatenate([np.zeros((1, width), np.float32), found.nodes.reshape(n * m, width)])
        # Nodes are of one kind where the bits of their features are: told by one number of those.
        marks = np.random.default_rng(0).integers(1, 2**63, width, np.uint64)
        bits = (x.view(np.uint32) * marks).sum(axis=1, dtype=np.uint64)
        _, first, codes = np.unique(bits, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")  # nothing, which is all 0, comes first
        kinds, rank = x[first[order]], np.argsort(order)
        codes = rank[codes.reshape(-1)][1:].reshape(n, m) * found.present
        context = context_of(space, rows, set())
        return Graphs(kinds, codes, found.adjacency > 0, np.arange(n), context)


def graphs_of(space: Space, rows: Any) -> Graphs:
    """Architectures as graphs of operations.

    Args:
        space: with an input shape; of others, the calls in programs are the nodes.
        rows: `(n, columns)`.

    >>> import symnas as sn
    >>> nn = sn.nn
    >>> space = sn.Space(
    ...     nn.Sequential(nn.Conv2d(3, 8, sn.oneof([1, 3]), padding="same"), nn.ReLU(),
    ...                   nn.Conv2d(8, 8, sn.oneof([1, 3]), padding="same")), input=(3, 8, 8))
    >>> found = graphs_of(space, [[0, 1], [1, 1]])
    >>> found.present.sum(axis=1)  # input, output, two convolutions
    array([4, 4])
    >>> np.argwhere(found.adjacency[0]).tolist()
    [[0, 2], [2, 3], [3, 1]]
    """
    if "graphs" not in space.derived:
        try:
            space.derived["graphs"] = FlowGraphs(space)
        except TooCoupled:
            space.derived["graphs"] = SpecGraphs()
    encode: FlowGraphs | SpecGraphs = space.derived["graphs"]
    return encode(space, np.ascontiguousarray(rows, np.int32).reshape(-1, len(space)))
