"""Asking a graph network for very many graphs: equal neighbourhoods are worked out once.

After l convolutions, what a network has for a node follows from the nodes up to l steps away. Graphs
of one space have many such neighbourhoods in common, so each is *coloured* (Weisfeiler and Leman
1968): nodes of one colour have the same vector, which is worked out, and multiplied by weights, once.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from symnas.predictors.graph_data import Graphs
from symnas.predictors.graph_network import Convolution, Network

Ints = NDArray[np.intp]

# Vectors that are summed up at once: about as many as the processor's own memory holds.
BLOCK = 4096
# Colours are told apart by sums of 64 random bits for each neighbour, from this seed.
SEED = 0


def screen(network: Network, graphs: Graphs, extra: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a network predicts, but for rounding, `(n,)`; dropout is off.

    Args:
        network: trained.
        graphs: n of them.
        extra: what is known besides `graphs.context`, `(n, inputs)`.
    """
    n, m = graphs.codes.shape
    sources = _Neighbours(graphs, graphs.patterns.transpose(0, 2, 1))
    takers = _Neighbours(graphs, graphs.patterns)
    row, node = sources.row, sources.node
    with torch.no_grad():
        x = torch.from_numpy(graphs.kinds)
        codes = _padded(graphs.codes)
        rng = np.random.default_rng(SEED)
        for convolution in network.convolutions:
            assert isinstance(convolution, Convolution)
            along, against = (
                part.contiguous() for part in (x @ convolution.weight).chunk(2, dim=1)
            )
            colour, first = _coloured(codes, sources, takers, rng)
            forward = _means(along, codes, sources, first)
            x = forward.add_(_means(against, codes, takers, first)).mul_(0.5)
            x = torch.cat([torch.zeros(1, x.shape[1]), x])  # the colour of no node
            codes = np.zeros_like(codes)
            codes[row * (m + 1) + node] = colour + 1
        hidden = x.shape[1]
        last = network.linear @ network.last  # (hidden + inputs, 1): there is nothing in between
        values = (x @ last[:hidden])[:, 0].numpy()
        total = values[codes].reshape(n, m + 1).sum(axis=1)
        known = np.concatenate([graphs.context, extra], axis=1, dtype=np.float32)
        found = total / np.maximum(1, graphs.present.sum(axis=1))
        return np.asarray(found + known @ last[hidden:, 0].numpy(), np.float32)


class _Neighbours:
    """For each node that is there, itself and its neighbours in one direction.

    Attributes:
        row, node: the nodes that are there, `(k,)` each.
        at: itself and its neighbours, in the flat array of all nodes, `(k, most)`; rows that have
            fewer are filled up with a node that never is there.
        share: 1 / their number, `(k,)`.
    """

    def __init__(self, graphs: Graphs, adjacency: NDArray[np.bool_]) -> None:
        m = adjacency.shape[1]
        near = adjacency | np.eye(m, dtype=bool)
        count = near.sum(axis=2)  # (patterns, nodes)
        most = int(count.max(initial=1))
        lists = np.argsort(~near, axis=2, kind="stable")[:, :, :most]
        lists[np.arange(lists.shape[2]) >= count[:, :, None]] = m
        self.row, self.node = np.nonzero(graphs.codes)
        pattern = graphs.pattern[self.row]
        self.at: Ints = lists[pattern, self.node] + self.row[:, None] * (m + 1)
        self.share = (1 / count[pattern, self.node]).astype(np.float32)


def _padded(codes: Ints) -> Ints:
    """Codes with one more node in each graph that is not there: `(n * (nodes + 1),)`."""
    return np.concatenate([codes, np.zeros((len(codes), 1), np.intp)], axis=1).reshape(-1)


def _coloured(
    codes: Ints, sources: _Neighbours, takers: _Neighbours, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """The new colour of each node that is there, `(k,)`, and the first node of each colour."""
    keys = np.zeros(len(sources.row), np.uint64)
    for neighbours in (sources, takers):
        marks = rng.integers(1, 2**63, int(codes.max(initial=0)) + 1, np.uint64)
        marks[0] = 0
        marked = marks[codes]
        for neighbour in neighbours.at.T:
            keys += marked[neighbour]
        keys *= np.uint64(0x9E3779B97F4A7C15)  # the two directions must not add up alike
    colour, _ = pd.factorize(keys)
    first = np.empty(int(colour.max(initial=-1)) + 1, np.intp)
    first[colour[::-1]] = np.arange(len(colour))[::-1]
    return colour, first


def _means(vectors: Tensor, codes: Ints, neighbours: _Neighbours, first: Ints) -> Tensor:
    """ReLU of the mean of the vectors of a node and its neighbours, for the first of each colour."""
    result = torch.empty(len(first), vectors.shape[1])
    for start in range(0, len(first), BLOCK):
        some = first[start : start + BLOCK]
        part = result[start : start + BLOCK]
        for k, at in enumerate(neighbours.at[some].T):
            index = torch.from_numpy(codes[at])
            if k == 0:
                torch.index_select(vectors, 0, index, out=part)
            else:
                part += vectors.index_select(0, index)
        part.mul_(torch.from_numpy(neighbours.share[some])[:, None]).relu_()
    return result
