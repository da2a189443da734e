"""The memory that a network's activations need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from symnas.architecture.architecture import Architecture
from symnas.costs.bound import BoundCost
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_peak import PeakCost
from symnas.costs.layers import shape_network
from symnas.costs.live import live_bytes
from symnas.costs.model import CostModel
from symnas.costs.peaks import peaks_of_space
from symnas.costs.pieces import Piece, bytes_of
from symnas.costs.record import pieces_of
from symnas.costs.scopes import TooCoupled
from symnas.searchspace.space import Space


@attrs.frozen(order=False)
class Activations(CostModel):
    """Bytes of all that layers and operations give, for one example.

    What training has to keep, about: each output counts once, also where it is made in place.

    Raises:
        CostFailed: the architecture could not be built or run.
        ValueError: the shape of one example is not given.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Sequential(sn.nn.Linear(4, 3), sn.nn.ReLU()), input=(4,))
    >>> Activations()(net)  # two outputs of three numbers of four bytes
    24.0
    """

    name: str = attrs.field(default="activations", kw_only=True)
    unit = "bytes"
    expense: ClassVar[int] = 2

    @property
    def needs_input(self) -> bool:
        return True

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        return [float(bytes_of(piece.outputs)) for piece in pieces]

    def measure(self, architecture: Architecture) -> float:
        return sum(self.price([piece for _, piece in pieces_of(architecture)]))


@attrs.frozen(order=False)
class PeakActivations(CostModel):
    """The most bytes that activations hold at any one time of inference, for one example.

    The input, and each tensor from the operation that makes it until nothing refers to it any more,
    as torch's eager execution has it: in `x = layer(x)` both the layer's input and its output are
    held. Parameters are not counted, nor the workspace of operations.

    A limit on it is exact, as that on a sum is: see `symnas.costs.bound_peak`.

    Raises:
        CostFailed: the architecture could not be built or run.
        ValueError: the shape of one example is not given.

    >>> import symnas as sn
    >>> layers = sn.nn.Sequential(sn.nn.Linear(4, 8), sn.nn.Linear(8, 2))
    >>> PeakActivations()(sn.Architecture(layers, input=(4,)))  # the input is the caller's still
    56.0
    """

    name: str = attrs.field(default="peak_activations", kw_only=True)
    unit = "bytes"
    expense: ClassVar[int] = 2

    @property
    def needs_input(self) -> bool:
        return True

    def measure(self, architecture: Architecture) -> float:
        assert architecture.input is not None
        trace = live_bytes(shape_network(architecture), architecture.input)
        return float(max(held for _, held in trace))

    def _bound(self, space: Space) -> BoundCost:
        try:
            found = peaks_of_space(space)
        except TooCoupled as problem:
            return MeasuredCost(self, space, note=str(problem))
        return PeakCost(self, space, found.terms, error=found.error)
