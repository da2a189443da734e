"""Layers of graph networks in plain torch, on dense or sparse adjacency.

The formulas are those of the papers named at each; where these leave something open, as in the
library with which NAS-Bench-Graph was measured: all edges weigh alike, and each operation has one
bias for each output.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

import symnas as sn
from symnas.benchmark.readers.graph_cells import OPERATIONS

HEADS = 4
"""Attention heads of `gat`, whose results are concatenated; they divide the width."""


@attrs.frozen(eq=False)
class Graph:
    """Edges of a graph without weights; those of a batch of graphs, if dense.

    Attributes:
        adjacency: `[..., nodes, nodes]`, 1 in row i and column j where j is a neighbour of i, else
            0; dense, or one sparse COO matrix.
    """

    adjacency: Tensor

    def total(self, x: Tensor) -> Tensor:
        """The sum over the neighbours of each node: `[..., nodes, features]`, as `x`."""
        if self.adjacency.is_sparse:
            summed: Tensor = torch.sparse.mm(self.adjacency, x)
            return summed
        return self.adjacency @ x

    @property
    def degrees(self) -> Tensor:
        """How many neighbours each node has: `[..., nodes, 1]`."""
        if self.adjacency.is_sparse:
            return torch.sparse.sum(self.adjacency, 1).to_dense()[:, None]
        return self.adjacency.sum(-1, keepdim=True)

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the neighbours of each node; 0 where it has none."""
        return self.total(x) / self.degrees.clamp(min=1)

    def normalized(self, x: Tensor, loops: bool = False) -> Tensor:
        """`D^-1/2 A D^-1/2 x` with degrees D; with `loops`, of A + I instead of A."""
        degrees = self.degrees + float(loops)
        scale = torch.where(degrees > 0, degrees.clamp(min=1).rsqrt(), torch.zeros_like(degrees))
        scaled = scale * x
        summed = self.total(scaled)
        return scale * (summed + scaled if loops else summed)

    def attended(self, scores: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each node's mean over itself and its neighbours, weighted by a softmax.

        Args:
            scores, keys: `[..., nodes, heads]`; node i attends to j by
                `LeakyReLU(scores[i] + keys[j])`, slope 0.2.
            values: `[..., nodes, heads, size]`.

        Returns:
            `[..., nodes, heads, size]`.
        """
        if self.adjacency.is_sparse:
            return self._attended_sparse(scores, keys, values)
        eye = torch.eye(scores.shape[-2], device=scores.device, dtype=torch.bool)
        edges = (self.adjacency != 0) | eye
        scores, keys = scores.transpose(-1, -2), keys.transpose(-1, -2)  # [..., heads, nodes]
        logits = nn.functional.leaky_relu(scores[..., :, None] + keys[..., None, :], 0.2)
        weights = logits.masked_fill(~edges[..., None, :, :], -torch.inf).softmax(-1)
        return (weights @ values.transpose(-2, -3)).transpose(-2, -3)

    def _attended_sparse(self, scores: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        own = torch.arange(len(scores), device=scores.device)
        target, source = self.adjacency.coalesce().indices()
        others = target != source
        target, source = torch.cat([target[others], own]), torch.cat([source[others], own])
        logits = nn.functional.leaky_relu(scores[target] + keys[source], 0.2)  # [edges, heads]
        # Softmax by target; the largest logit is subtracted, so that exp stays finite.
        places = target[:, None].expand_as(logits)
        largest = torch.full_like(scores, -torch.inf).scatter_reduce(
            0, places, logits.detach(), "amax"
        )
        weights = (logits - largest[target]).exp()
        norm = torch.zeros_like(scores).index_add(0, target, weights)
        shares = (weights / norm[target])[..., None] * values[source]
        return torch.zeros_like(values).index_add(0, target, shares)


class Attention(nn.Module):
    """P. Velickovic et al., "Graph Attention Networks", ICLR 2018, arXiv:1710.10903, Eq. 1-5."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if out_features % HEADS:
            raise ValueError(f"`out_features` ({out_features}) must be a multiple of {HEADS}.")
        self.size = out_features // HEADS
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.source = nn.Parameter(torch.empty(HEADS, self.size))
        self.target = nn.Parameter(torch.empty(HEADS, self.size))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.source)
        nn.init.xavier_uniform_(self.target)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        values = self.linear(x).unflatten(-1, (HEADS, self.size))
        scores, keys = (values * self.target).sum(-1), (values * self.source).sum(-1)
        y: Tensor = graph.attended(scores, keys, values).flatten(-2) + self.bias
        return y


class Convolution(nn.Module):
    """An operation that mixes each node with what `Graph` gives of its neighbours.

    - gcn: `D^-1/2 (A + I) D^-1/2 x W + b`, T. Kipf and M. Welling, ICLR 2017, arXiv:1609.02907, Eq. 2
    - gin: `(x + A x) W + b`, K. Xu et al., ICLR 2019, arXiv:1810.00826, Eq. 4.1, with epsilon 0 and
      one linear layer
    - cheb: `x W + L x V + b`, M. Defferrard et al., NeurIPS 2016, arXiv:1606.09375, Eq. 4, order 2,
      `L = 2 (I - D^-1/2 A D^-1/2) / 2 - I` (the largest eigenvalue is taken to be 2)
    - sage: `x W + (mean over neighbours) V + b`, W. Hamilton et al., NeurIPS 2017, arXiv:1706.02216
    - arma: `relu(D^-1/2 A D^-1/2 x V + x W + b)`, F. Bianchi et al., TPAMI 2021, arXiv:1901.01343,
      Eq. 11, one stack of one layer
    - graph: `x W + A x V + b`, the 1-dimensional k-GNN, C. Morris et al., AAAI 2019,
      arXiv:1810.02244, Eq. 1
    - fc: `x W + b`
    """

    def __init__(self, operation: str, in_features: int, out_features: int) -> None:
        super().__init__()
        self.operation = operation
        self.linear = nn.Linear(in_features, out_features)
        if operation in ("cheb", "sage", "arma", "graph"):
            self.neighbours = nn.Linear(in_features, out_features, bias=False)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        y: Tensor
        if self.operation == "gcn":
            # The linear map goes first: it narrows what is summed.
            weighted = nn.functional.linear(x, self.linear.weight)
            y = graph.normalized(weighted, loops=True) + self.linear.bias
        elif self.operation == "gin":
            y = self.linear(x + graph.total(x))
        elif self.operation == "cheb":
            y = self.linear(x) + self.neighbours(-graph.normalized(x))
        elif self.operation == "sage":
            y = self.linear(x) + self.neighbours(graph.mean(x))
        elif self.operation == "arma":
            y = torch.relu(graph.normalized(self.neighbours(x)) + self.linear(x))
        elif self.operation == "graph":
            y = self.linear(x) + self.neighbours(graph.total(x))
        else:
            y = self.linear(x)
        return y


class Skip(nn.Module):
    """The operation `skip`: gives what it is given."""

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return x


@sn.symbolize
class ComputingNode(nn.Module):
    """Batch norm, ReLU, dropout (none of them on raw features), then one operation.

    `[..., nodes, in_features]` to `[..., nodes, out_features]`; `skip` keeps the width. The
    operation is a child of its own name, so that a supernet keeps weights of operations apart.

    Args:
        operation: one of `OPERATIONS`.
        in_features: of each vertex of the graph.
        out_features: a multiple of `HEADS`.
        raw: whether the input is the graph's own features.
        dropout: the probability, from 0 to below 1.
    """

    def __init__(
        self,
        operation: str,
        in_features: int,
        out_features: int,
        raw: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if operation not in OPERATIONS:
            raise ValueError(f"`operation` ({operation!r}) must be one of {', '.join(OPERATIONS)}.")
        self.operation, self.raw = operation, raw
        if not raw:
            self.norm = nn.BatchNorm1d(in_features)
            self.dropout = nn.Dropout(dropout)
        layer: nn.Module
        if operation == "skip":
            layer = Skip()
        elif operation == "gat":
            layer = Attention(in_features, out_features)
        else:
            layer = Convolution(operation, in_features, out_features)
        self.add_module(operation, layer)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        if not self.raw:
            flat = self.norm(x.reshape(-1, x.shape[-1]))
            x = self.dropout(torch.relu(flat)).reshape(x.shape)
        y: Tensor = getattr(self, self.operation)(x, graph)
        return y
