"""The number of multiply-accumulate operations of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from symnas.architecture.architecture import Architecture
from symnas.costs.model import CostModel
from symnas.costs.pieces import Piece, macs_of
from symnas.costs.record import pieces_of


@attrs.frozen(order=False)
class Macs(CostModel):
    """Multiply-accumulate operations (MACs) for one example: half of the FLOPs.

    Counted are convolutions, matrix products and attention, by torch's own formulas
    (`torch.utils.flop_counter`), in evaluation mode, from shapes. Additions, activations,
    normalisation and pooling count nothing, as is the custom.

    Raises:
        CostFailed: the architecture could not be built, or cannot run at its input's shape.
        ValueError: the shape of one example is not given.

    >>> import symnas as sn
    >>> Macs()(sn.Architecture(sn.nn.Conv2d(3, 8, 3, padding=1), input=(3, 32, 32)))
    221184.0
    >>> 8 * 3 * 3 * 3 * 32 * 32
    221184
    """

    name: str = attrs.field(default="macs", kw_only=True)
    unit = "MACs"
    expense: ClassVar[int] = 2

    @property
    def needs_input(self) -> bool:
        return True

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        return [macs_of(piece) for piece in pieces]

    def measure(self, architecture: Architecture) -> float:
        return sum(macs_of(piece) for _, piece in pieces_of(architecture))
