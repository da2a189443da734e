"""The graph convolutional network of Neural Predictor, on dense batches of small graphs.

Wen et al. 2019 (arXiv 1912.00848), section 3.2.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from symnas.predictors.graph_data import Graphs


class Batch:
    """Graphs as tensors.

    Args:
        x: features of nodes, `(n, nodes, features)`; 0 for those that are not there.
        forward: `A'`: what each node takes, its own and its sources' results alike, `(n, nodes,
            nodes)`; rows sum to 1.
        backward: the same against the direction of the edges.
        share: of each node in the mean over those that are there, `(n, nodes)`.
        extra: what is known besides, `(n, inputs)`.
    """

    def __init__(
        self, x: Tensor, forward: Tensor, backward: Tensor, share: Tensor, extra: Tensor
    ) -> None:
        self.x, self.forward, self.backward = x, forward, backward
        self.share, self.extra = share, extra

    def some(self, index: Tensor) -> Batch:
        """Those graphs."""
        parts = (self.x, self.forward, self.backward, self.share, self.extra)
        return Batch(*(part[index] for part in parts))


def dense(graphs: Graphs, extra: NDArray[np.float64]) -> Batch:
    """Graphs as a batch.

    Args:
        graphs: n of them.
        extra: what is known besides `graphs.context`, `(n, inputs)`.
    """
    forward, backward = normalized(graphs.patterns)
    pattern = torch.from_numpy(graphs.pattern)
    present = torch.from_numpy(graphs.present).float()
    return Batch(
        torch.from_numpy(graphs.nodes),
        forward[pattern],
        backward[pattern],
        present / present.sum(dim=1, keepdim=True).clamp(min=1),
        torch.from_numpy(np.concatenate([graphs.context, extra], axis=1, dtype=np.float32)),
    )


def normalized(adjacency: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """`A'` in both directions, `(n, nodes, nodes)` each: `A + I`, each row divided by its sum.

    >>> along, against = normalized(np.array([[[0, 1, 1], [0, 0, 1], [0, 0, 0]]]) > 0)
    >>> along[0, 2]  # what the last one takes
    tensor([0.3333, 0.3333, 0.3333])
    >>> against[0, 1]
    tensor([0.0000, 0.5000, 0.5000])
    """
    ones = torch.eye(adjacency.shape[1])
    against = torch.from_numpy(adjacency).float() + ones
    along = against.transpose(1, 2)
    return along / along.sum(dim=2, keepdim=True), against / against.sum(dim=2, keepdim=True)


class Convolution(nn.Module):
    """`V' = 1/2 ReLU(A' V W1) + 1/2 ReLU(A'^T V W2)`, each `A'` normalised for its direction."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        super().__init__()
        both = [_weights(inputs, outputs, rng) for _ in range(2)]
        self.weight = nn.Parameter(torch.cat(both, dim=1))  # (inputs, 2 * outputs): W1, W2

    def forward(self, x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        """`(n, nodes, inputs)` to `(n, nodes, outputs)`."""
        along, against = (x @ self.weight).chunk(2, dim=2)
        return 0.5 * (torch.relu(forward @ along) + torch.relu(backward @ against))


class Network(nn.Module):
    """Graph convolutions, the mean over the nodes that are there, and two linear layers.

    Args:
        batch: such as the network is for.
        layers, hidden, width, dropout: see `symnas.predictors.GCN`.
        rng: of the initial weights and of dropout.
    """

    def __init__(
        self, batch: Batch, layers: int, hidden: int, width: int, dropout: float,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = [batch.x.shape[2]] + [hidden] * layers
        self.convolutions = nn.ModuleList(
            Convolution(a, b, rng) for a, b in itertools.pairwise(sizes)
        )
        pooled = hidden + batch.extra.shape[1]
        self.linear = nn.Parameter(_weights(pooled, width, rng))
        self.last = nn.Parameter(_weights(width, 1, rng))
        self._dropout, self._rng = dropout, rng

    def forward(self, batch: Batch) -> Tensor:
        """One number for each graph, `(n,)`."""
        x = batch.x
        for convolution in self.convolutions:
            x = self._dropped(convolution(x, batch.forward, batch.backward))
        pooled = (batch.share[:, None] @ x)[:, 0]
        if batch.extra.shape[1]:
            pooled = torch.cat([pooled, batch.extra], dim=1)
        return (self._dropped(pooled @ self.linear) @ self.last)[:, 0]

    def _dropped(self, x: Tensor) -> Tensor:
        """Dropout; drawn by numpy, which is several times as fast here as torch."""
        if not self.training or self._dropout == 0:
            return x
        drawn = torch.from_numpy(self._rng.random(x.shape, np.float32))
        return x * ((drawn >= self._dropout) * (1 / (1 - self._dropout)))


def _weights(inputs: int, outputs: int, rng: np.random.Generator) -> Tensor:
    """Glorot's uniform weights, `(inputs, outputs)`."""
    bound = (6 / max(1, inputs + outputs)) ** 0.5
    return torch.from_numpy(rng.uniform(-bound, bound, (inputs, outputs))).float()
