"""The number of parameters of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch

from symnas.architecture.architecture import Architecture
from symnas.costs.layers import run_shapes, shape_network
from symnas.costs.model import CostModel
from symnas.costs.pieces import Piece


@attrs.frozen(order=False)
class Parameters(CostModel):
    """How many numbers a network has to learn.

    Parameters that are shared are counted once, frozen ones too; buffers, such as the statistics
    of batch normalisation, are not. Nothing is computed: networks are built without memory.

    Raises:
        CostFailed: the architecture could not be built.

    >>> import symnas as sn
    >>> Parameters()(sn.Architecture(sn.nn.Linear(4, 2)))  # 4 x 2 weights and 2 biases
    10.0
    """

    name: str = attrs.field(default="parameters", kw_only=True)
    unit = "parameters"
    expense: ClassVar[int] = 1
    counts: ClassVar[str] = "storage"

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        return [float(sum(p.numel() for p in piece.parameters)) for piece in pieces]

    def measure(self, architecture: Architecture) -> float:
        network = shape_network(architecture)
        if _is_lazy(network):
            if architecture.input is None:
                raise ValueError(
                    "its layers find their sizes at the first run: pass the input's shape, as in "
                    "sn.Space(program, input=(3, 32, 32))"
                )
            run_shapes(network, architecture.input)
        return sum(p.numel() for p in network.parameters())


def _is_lazy(network: torch.nn.Module) -> bool:
    return any(isinstance(p, torch.nn.UninitializedParameter) for p in network.parameters())
