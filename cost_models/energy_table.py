"""Energy at once: published energies of operations times how many of them a network needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from symnas.architecture.architecture import Architecture
from symnas.costs.accelerators.traffic import ELEMENTWISE, traffic_of
from symnas.costs.model import CostModel
from symnas.costs.pieces import Piece, flops_of
from symnas.costs.record import pieces_of
from symnas.searching.checks import one_of

_MICRO = 1e-6  # microjoules in a picojoule
_KILOBYTE = 8 * 1024  # bits


@attrs.frozen
class Technology:
    """Energies of a process technology, in picojoules.

    Attributes:
        mac: of one multiplication and addition, by the bits of the operands.
        register: to read one bit of a register file.
        buffer: to access one bit of an SRAM, by its kilobytes.
        dram: to access one bit of external memory.
    """

    mac: dict[int, float]
    register: float
    buffer: dict[float, float]
    dram: float


TECHNOLOGIES: dict[str, Technology] = {
    # M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
    # Fig. 1.1.9: 45 nm, 0.9 V. Additions: 0.1 (int32), 0.4 (fp16), 0.9 (fp32); multiplications:
    # 0.2 (int8), 1.1 (fp16), 3.7 (fp32). Caches, 64 bits: 10 (8 KB), 20 (32 KB), 100 (1 MB). DRAM,
    # 64 bits: 1300 to 2600, of which the lower end is taken. The register file, 1 for 32 bits, is
    # that of S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
    # NeurIPS 2015, Fig. 1, for the same process.
    "45nm": Technology(
        mac={8: 0.2 + 0.1, 16: 1.1 + 0.4, 32: 3.7 + 0.9},
        register=1 / 32,
        buffer={8: 10 / 64, 32: 20 / 64, 1024: 100 / 64},
        dram=1300 / 64,
    )
}


def _positive(optional: bool = False) -> Any:
    check = attrs.validators.and_(
        attrs.validators.instance_of((int, float)), attrs.validators.gt(0)
    )
    return attrs.validators.optional(check) if optional else check


@attrs.frozen(order=False)
class EnergyTable(CostModel):
    """Microjoules for one example, from published energies and a plain traffic model.

    For an operation with M multiply-accumulates that reads W bits of weights and I bits of other
    tensors, and writes O bits, with operands of b bits and n operand uses for each buffer read:

        energy = M (e_mac + 2 b e_register)
               + e_buffer (max(W + I, 2 b M / n) + O)
               + e_dram (W + [I + O if they do not fit the buffer together])

    So weights come from external memory once for every example, and activations only where they
    are too large to stay in the buffer between layers. It needs no search and knows no array: use
    it to rank architectures early, and `cm.Energy` for a given accelerator. The energy of a buffer
    is interpolated in its size (double logarithmically).

    Args:
        technology: "45nm", see `TECHNOLOGIES`.
        bits: of all numbers: 8 (integers, 32-bit sums), 16 or 32 (floating point).
        buffer_kb: kilobytes of the buffer, from 8 to 1024.
        reuse: how many multiplications use an operand that was read from the buffer once (n).
        elementwise: what normalisation, activations, pooling and additions cost: "fused", nothing,
            or "memory", their reads and writes by the formula.
        mac_pj, register_pj, buffer_pj, dram_pj: other energies in picojoules, for one operation,
            and for one bit.
        name: another one, where a search has two energies.

    Raises:
        ValueError: an option is out of range.
        CostFailed: the architecture could not be built or run (when measuring).

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(1000, 100, bias=False), input=(1000,))
    >>> round(EnergyTable()(net), 1)  # nearly all of it for 800,000 bits of weights from DRAM
    16.8
    >>> EnergyTable(dram_pj=20.0)(net) < EnergyTable()(net) < EnergyTable(bits=16)(net)
    True
    """

    technology: str = attrs.field(default="45nm", validator=one_of(TECHNOLOGIES))
    bits: int = attrs.field(default=8)
    buffer_kb: float = attrs.field(default=128.0, kw_only=True)
    reuse: float = attrs.field(default=16.0, validator=_positive(), kw_only=True)
    elementwise: str = attrs.field(default="fused", validator=one_of(ELEMENTWISE), kw_only=True)
    mac_pj: float | None = attrs.field(default=None, validator=_positive(True), kw_only=True)
    register_pj: float | None = attrs.field(default=None, validator=_positive(True), kw_only=True)
    buffer_pj: float | None = attrs.field(default=None, validator=_positive(True), kw_only=True)
    dram_pj: float | None = attrs.field(default=None, validator=_positive(True), kw_only=True)
    name: str = attrs.field(default="energy_table", kw_only=True)

    unit = "uJ"
    expense: ClassVar[int] = 2

    def __attrs_post_init__(self) -> None:
        known = TECHNOLOGIES[self.technology]
        if self.bits not in known.mac:
            raise ValueError(
                f"EnergyTable: the value of `bits` ({self.bits!r}) must be one of "
                f"{', '.join(map(str, known.mac))}. Pass the nearest, and `mac_pj` for its energy."
            )
        low, high = min(known.buffer), max(known.buffer)
        if self.buffer_pj is None and not low <= self.buffer_kb <= high:
            raise ValueError(
                f"EnergyTable: the value of `buffer_kb` ({self.buffer_kb!r}) must be from {low:g} "
                f"to {high:g}, the sizes with published energies. Pass `buffer_pj` for others."
            )
        if not self.buffer_kb > 0:
            raise ValueError(
                f"EnergyTable: the value of `buffer_kb` ({self.buffer_kb!r}) must be positive."
            )

    @property
    def device(self) -> str:
        return self.technology

    @property
    def needs_input(self) -> bool:
        return True

    @property
    def energies(self) -> dict[str, float]:
        """Picojoules of a multiply-accumulate, and of a bit of each memory."""
        known = TECHNOLOGIES[self.technology]
        sizes, costs = np.log(list(known.buffer)), np.log(list(known.buffer.values()))
        buffer = float(np.exp(np.interp(math.log(self.buffer_kb), sizes, costs)))
        return {
            "mac": known.mac[self.bits] if self.mac_pj is None else self.mac_pj,
            "register": known.register if self.register_pj is None else self.register_pj,
            "buffer": buffer if self.buffer_pj is None else self.buffer_pj,
            "dram": known.dram if self.dram_pj is None else self.dram_pj,
        }

    def measure(self, architecture: Architecture) -> float:
        return math.fsum(self.price([piece for _, piece in pieces_of(architecture)]))

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        """The energy of each piece."""
        counts, owner = [], []
        for number, piece in enumerate(pieces):
            for operation in piece.operations:
                macs = flops_of(operation) // 2
                if macs or self.elementwise == "memory":
                    moved = traffic_of(operation, piece.parameters, self.bits)
                    counts.append((macs, moved.weights, moved.reads, moved.writes))
                    owner.append(number)
        costs = np.zeros(len(pieces))
        if counts:
            np.add.at(costs, owner, self._microjoules(*np.array(counts, float).T))
        return [float(cost) for cost in costs]

    def _microjoules(
        self, macs: ArrayLike, weights: ArrayLike, reads: ArrayLike, writes: ArrayLike
    ) -> NDArray[np.float64]:
        return _MICRO * table_pj(
            macs,
            weights,
            reads,
            writes,
            bits=self.bits,
            buffer_bits=self.buffer_kb * _KILOBYTE,
            reuse=self.reuse,
            **{f"{part}_pj": energy for part, energy in self.energies.items()},
        )


def table_pj(
    macs: ArrayLike,
    weights: ArrayLike,
    reads: ArrayLike,
    writes: ArrayLike,
    *,
    bits: ArrayLike,
    buffer_bits: ArrayLike,
    reuse: ArrayLike,
    mac_pj: ArrayLike,
    register_pj: ArrayLike,
    buffer_pj: ArrayLike,
    dram_pj: ArrayLike,
) -> NDArray[np.float64]:
    """Picojoules of operations by the formula of `EnergyTable`; all arguments broadcast.

    Args:
        macs: multiply-accumulate operations.
        weights, reads, writes: bits of weights and of other tensors read, and bits written.
        bits: of one number.
        buffer_bits: the size of the buffer.
        reuse: multiplications for each operand read from the buffer.
        mac_pj: of one operation.
        register_pj, buffer_pj, dram_pj: of one bit.

    >>> print(table_pj(
    ...     [100], [80], [80], [8], bits=8, buffer_bits=1e6, reuse=16,
    ...     mac_pj=0.3, register_pj=0.0, buffer_pj=0.0, dram_pj=20.0,
    ... ))  # 100 operations, and 80 bits of weights
    [1630.]
    """
    macs, weights, reads, writes = (np.asarray(a, float) for a in (macs, weights, reads, writes))
    operands = 2 * np.asarray(bits, float) * macs
    buffer = np.maximum(weights + reads, operands / np.asarray(reuse, float)) + writes
    spilled = np.where(reads + writes > np.asarray(buffer_bits, float), reads + writes, 0.0)
    result = macs * np.asarray(mac_pj) + operands * np.asarray(register_pj)
    return np.asarray(
        result + buffer * np.asarray(buffer_pj) + (weights + spilled) * np.asarray(dram_pj), float
    )
