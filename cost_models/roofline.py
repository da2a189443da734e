"""Roofline: the time that a machine of given peak and bandwidth needs at least.

S. Williams, A. Waterman and D. Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from symnas.architecture.architecture import Architecture
from symnas.costs.accelerators.traffic import ELEMENTWISE, traffic_of
from symnas.costs.hardware import or_choice
from symnas.costs.model import CostModel
from symnas.costs.pieces import Operation, Piece, flops_of
from symnas.costs.record import pieces_of
from symnas.searching.checks import one_of

_positive = attrs.validators.and_(
    attrs.validators.instance_of((int, float)),
    attrs.validators.gt(0),
    attrs.validators.lt(math.inf),
)
_searched = or_choice(_positive)


@attrs.frozen
class Level:
    """One step of a memory hierarchy: what passes it, and how fast.

    Attributes:
        bandwidth: bytes a second that can pass.
        beneath: bytes of the memory on the side of the arithmetic, in which data is used again;
            None: as much as needed, so that every tensor passes once.
    """

    bandwidth: float = attrs.field(validator=_positive)
    beneath: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_positive)
    )


def _levels(levels: Iterable[Any]) -> tuple[Level, ...]:
    return tuple(level if isinstance(level, Level) else Level(*level) for level in levels)


@attrs.frozen(order=False)
class Roofline(CostModel):
    """Milliseconds for one example on hardware that is known by a few numbers.

    Each operation takes the longer of computing and moving its data through every level:

        time = overhead + max(MACs / peak, bytes_1 / bandwidth_1, bytes_2 / bandwidth_2, ...)

    The bytes of a level are those of the operation's inputs, weights and outputs, each once; where
    the memory beneath it holds S numbers, at least 2 MACs / sqrt(S) numbers pass (G. Kwasniewski
    et al., "Red-Blue Pebbling Revisited", SC 2019, Theorem 1, for matrix products; convolutions are
    held to the same). It is a bound: real machines reach neither roof all the time.

    Args:
        peak: multiply-accumulate operations a second: half of the FLOP/s.
        bandwidth: bytes a second of main memory.
        cache: bytes of the memory in front of it, in which data is used again; None: as much as
            needed, and every tensor comes from main memory once.
        levels: the `Level`s within, such as a cache's own bandwidth, or pairs of their numbers.
        overhead: milliseconds for each operation, such as the launch of a kernel.
        bits: of one number; None: as the network has them.
        elementwise: whether normalisation, activations, pooling and additions are operations of
            their own ("memory"), or done in passing, for nothing ("fused").
        name: another one, where a search has two latencies.

    `peak`, `bandwidth` and `cache` may be choices (`sn.oneof([...], group="hardware")`): then the
    machine is searched together with the architecture.

    Raises:
        ValueError: a number is not positive.
        CostFailed: the architecture could not be built or run (when measuring).

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(1000, 1000, bias=False), input=(1000,))
    >>> Roofline(peak=1e9, bandwidth=1e12)(net)  # a million operations
    1.0
    >>> Roofline(peak=1e15, bandwidth=4.008e9)(net)  # a million weights and 2,000 activations
    1.0
    """

    peak: Any = attrs.field(validator=_searched)
    bandwidth: Any = attrs.field(validator=_searched)
    cache: Any = attrs.field(
        default=None, validator=attrs.validators.optional(_searched), kw_only=True
    )
    levels: tuple[Level, ...] = attrs.field(default=(), converter=_levels, kw_only=True)
    overhead: float = attrs.field(
        default=0.0,
        validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(math.inf)),
        kw_only=True,
    )
    bits: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_positive), kw_only=True
    )
    elementwise: str = attrs.field(default="memory", validator=one_of(ELEMENTWISE), kw_only=True)
    name: str = attrs.field(default="roofline", kw_only=True)

    unit = "ms"
    expense: ClassVar[int] = 2

    @property
    def needs_input(self) -> bool:
        return True

    def measure(self, architecture: Architecture) -> float:
        return math.fsum(self.price([piece for _, piece in pieces_of(architecture)]))

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        """The time of each piece."""
        macs, traffic, owner = self.counts(pieces)
        costs = np.zeros(len(pieces))
        if len(owner):
            bandwidths = [self.bandwidth, *(level.bandwidth for level in self.levels)]
            times = roofline_ms(macs, traffic, self.peak, bandwidths, self.overhead)
            np.add.at(costs, owner, times)
        return [float(cost) for cost in costs]

    def counts(
        self, pieces: Sequence[Piece]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """What the operations of pieces need, whatever the speeds are.

        Returns:
            MACs `(n,)` and bytes at each level `(n, levels)` of n operations, main memory first,
            and the number of the piece that each operation belongs to `(n,)`.
        """
        beneath = [self.cache, *(level.beneath for level in self.levels)]
        macs, traffic, owner = [], [], []
        for number, piece in enumerate(pieces):
            for operation in piece.operations:
                count = flops_of(operation) // 2
                moved = traffic_of(operation, piece.parameters, self.bits).total / 8
                if count or (moved and self.elementwise == "memory"):
                    size = _number_bytes(operation, self.bits)
                    macs.append(float(count))
                    traffic.append([_passing(count, moved, size, memory) for memory in beneath])
                    owner.append(number)
        return (
            np.array(macs, float),
            np.array(traffic, float).reshape(-1, len(beneath)),
            np.array(owner, np.int64),
        )


def roofline_ms(
    macs: ArrayLike,
    traffic_bytes: ArrayLike,
    peak_macs_per_s: ArrayLike,
    bandwidths: ArrayLike,
    overhead_ms: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    """Milliseconds of operations: the longest of computing and moving bytes through each level.

    Leading dimensions broadcast, so that many machines can be priced at once.

    Args:
        macs: multiply-accumulate operations, `(...)`.
        traffic_bytes: bytes through each level, `(..., levels)`.
        peak_macs_per_s: of the machine, `(...)`.
        bandwidths: bytes a second of each level, `(..., levels)`.
        overhead_ms: for each operation, `(...)`.

    Returns:
        Times, `(...)`.

    >>> print(roofline_ms([2e6, 0], [[1e3], [4e6]], 1e9, [1e9], 0.5))
    [2.5 4.5]
    >>> peaks = np.array([[1e9], [2e9]])  # two machines, two operations
    >>> print(roofline_ms([2e6, 0], [[1e3], [4e6]], peaks, [1e9]))
    [[2. 4.]
     [1. 4.]]
    """
    moving = np.asarray(traffic_bytes, float) / np.asarray(bandwidths, float)  # (..., levels)
    computing = np.asarray(macs, float) / np.asarray(peak_macs_per_s, float)
    seconds = np.maximum(computing, moving.max(axis=-1, initial=0.0))
    return np.asarray(seconds * 1e3 + np.asarray(overhead_ms, float), float)


def _passing(macs: int, once: float, size: float, beneath: float | None) -> float:
    """Bytes that pass a level with so much memory beneath it."""
    if beneath is None:
        return once
    return max(once, 2 * macs / math.sqrt(beneath / size) * size)


def _number_bytes(operation: Operation, bits: int | None) -> float:
    if bits is not None:
        return bits / 8
    return float(max((t.element_size() for t in operation.inputs), default=4))
