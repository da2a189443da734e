"""An edge accelerator in seven numbers: an array of multipliers, two buffers, and a memory port.

The array is `rows` x `columns` of 8-bit multipliers, each with a local buffer. A global buffer feeds
the array, and external memory the global buffer. The dataflow says which operand stays in the
array (V. Sze et al., "Efficient Processing of Deep Neural Networks: A Tutorial and Survey",
Proceedings of the IEEE 105(12), 2017, arXiv:1703.09039, Section V-B).

The formulas are analytical. A layer is a product of matrices, M positions of the output by N
filters with sums over Q numbers, in G groups side by side; the dataflow says which two of the three
lie along rows and columns, as in A. Samajdar et al., "SCALE-Sim: Systolic CNN Accelerator
Simulator", 2018, arXiv:1811.02883. Unlike there, operands are sent to all of a row or column at
once, so that filling takes no time, and groups share the columns where the outputs' channels do;
that, and the local buffer's part, are our own.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from symnas.costs.accelerators.hardware import LINKS, Hardware
from symnas.searching.checks import at_least, number, one_of

DATAFLOWS = ("weight", "output", "input")
BITS = 8  # of a weight and an activation
SUM_BITS = 24  # of a sum that is not complete: products of 8 bits, up to 256 of them and their sign

# M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, Fig. 1.1.9,
# 45 nm: picojoules for a bit of caches by bytes. The first is a register file, 1 pJ for 32 bits, of
# S. Han et al., "Learning both Weights and Connections", NeurIPS 2015, Fig. 1; that it belongs to 32
# registers of 32 bits is our assumption.
MEMORY_PJ = {128.0: 1 / 32, 8192.0: 10 / 64, 32768.0: 20 / 64, 1048576.0: 100 / 64}
MAC_PJ = 0.2 + 0.1  # ISSCC 2014: multiplication of 8 bits, addition of 32
DRAM_PJ = 1300 / 64  # a bit; ISSCC 2014, the lower end

# Square micrometres at 45 nm. Arithmetic as synthesised beside those energies in W. Dally's and S.
# Han's lectures (from memory): multiplication of 8 bits, addition of 32.
MAC_UM2 = 282 + 137
REGISTER_UM2 = 4.522  # a bit: the flip-flop DFF_X1 of the NanGate 45 nm open cell library
# A bit of SRAM: the cell of K. Mistry et al., "A 45nm Logic Technology", IEDM 2007 (0.346, from
# memory), and as much again for decoders, sense amplifiers and wires (our assumption).
SRAM_UM2 = 2 * 0.346
# A port of external memory for a gigabyte a second: about 3% of a die of at most 331 mm2 for 34 GB/s
# of DDR3, read off N. Jouppi et al., "In-Datacenter Performance Analysis of a Tensor Processing
# Unit", ISCA 2017, Fig. 2 (from memory; 28 nm, but ports shrink little).
PORT_MM2 = 0.3

Array = NDArray[np.float64]


@attrs.frozen
class Edge:
    """An accelerator.

    Args:
        rows, columns: of the array.
        local_bytes: of the buffer at each multiplier, which holds the operand that stays.
        buffer_kb: kilobytes (1,024 bytes) of the global buffer.
        bandwidth: bytes a second of external memory.
        dataflow: what stays in the array: "weight" (what is summed lies along rows, filters along
            columns), "output" (positions of the output along rows, filters along columns) or "input"
            (what is summed along rows, positions along columns).
        clock: cycles a second.

    Raises:
        TypeError, ValueError: a number is none, or out of range.

    >>> edge = Edge(rows=16, columns=16, local_bytes=64, buffer_kb=128, bandwidth=2e9)
    >>> print(f"{edge.peak:.3g} operations a second on {edge.area_mm2:.2f} mm2")
    5.12e+10 operations a second on 2.06 mm2
    """

    rows: int = attrs.field(default=16, validator=at_least(1))
    columns: int = attrs.field(default=16, validator=at_least(1))
    local_bytes: int = attrs.field(default=64, validator=at_least(3))
    buffer_kb: int = attrs.field(default=128, validator=at_least(1))
    bandwidth: float = attrs.field(default=2e9, validator=number(0, inside=True))
    dataflow: str = attrs.field(default="weight", validator=one_of(DATAFLOWS))
    clock: float = attrs.field(default=200e6, validator=number(0, inside=True))

    @property
    def peak(self) -> float:
        """Multiply-accumulate operations a second, with every multiplier busy."""
        return self.rows * self.columns * self.clock

    @property
    def areas_mm2(self) -> dict[str, float]:
        """Square millimetres of the parts, at 45 nm."""
        registers = 8 * self.local_bytes + BITS + SUM_BITS  # and an operand and a sum in passing
        return {
            "array": self.rows * self.columns * (MAC_UM2 + registers * REGISTER_UM2) * 1e-6,
            "buffer": self.buffer_kb * 8192 * SRAM_UM2 * 1e-6,
            "port": self.bandwidth * 1e-9 * PORT_MM2,
        }

    @property
    def area_mm2(self) -> float:
        """Square millimetres at 45 nm; without control, clocks and special functions."""
        return math.fsum(self.areas_mm2.values())

    def hardware(self) -> Hardware:
        """The same accelerator as a description for ZigZag, with its dataflow as the mapping.

        The ports of the global buffer are as wide as the array can use. ZigZag puts divisors of
        loops on the array, so that sizes which have none are spread less well than `array_cycles`
        has it (7 x 7 positions on 32 rows: 7 at a time, and not 32).
        """
        data = {
            "name": "edge",
            "memories": self._memories(),
            "operational_array": {
                "unit_energy": MAC_PJ,
                "unit_area": MAC_UM2 * 1e-6,
                "dimensions": ["D1", "D2"],
                "sizes": [self.rows, self.columns],
            },
        }
        sums, filters, positions = ["C", "FX", "FY"], ["K", "G"], ["OX", "OY", "B"]
        rows, columns = {
            "weight": (sums, filters),
            "output": (positions, filters),
            "input": (sums, positions),
        }[self.dataflow]
        hint = {"D1": rows, "D2": columns}
        entry = {"name": "default", "spatial_mapping_hint": hint, "memory_operand_links": LINKS}
        return Hardware("edge", data, [entry], mixed=True)

    def _memories(self) -> dict[str, Any]:
        stays = {"weight": "I2", "input": "I1", "output": "O"}[self.dataflow]
        own = {"I1": BITS, "I2": BITS, "O": SUM_BITS}
        memories = {}
        for operand, bits in own.items():
            size = 8 * self.local_bytes if operand == stays else bits
            word = bits * float(memory_pj(size / 8))
            memories[f"local_{operand}"] = _memory(size, bits, bits, word, [operand], [])
        wide = self.rows * self.columns * SUM_BITS
        size = 8192 * self.buffer_kb
        word = wide * float(memory_pj(size / 8))
        array = ["D1", "D2"]
        memories["buffer"] = _memory(size, BITS, wide, word, list(own), array)
        port = max(1, round(8 * self.bandwidth / self.clock))  # bits a cycle
        memories["dram"] = _memory(
            10**10, min(BITS, port), port, port * DRAM_PJ, list(own), array, "one"
        )
        return memories


def _memory(
    bits: int,
    narrow: int,
    wide: int,
    word_pj: float,
    operands: list[str],
    served: list[str],
    ports: str = "two",
) -> dict[str, Any]:
    """A memory in ZigZag's format: its size, its ports, and the energy of a full-width access."""
    reads = [f"{o}, {way}" for o in operands for way in (("tl", "th") if o == "O" else ("tl",))]
    writes = [f"{o}, {way}" for o in operands for way in (("fh", "fl") if o == "O" else ("fh",))]
    kinds = {"r": reads, "w": writes} if ports == "two" else {"rw": reads + writes}
    types = {"r": "read", "w": "write", "rw": "read_write"}
    return {
        "size": bits,
        "r_cost": word_pj,
        "w_cost": word_pj,
        "area": 0,
        "latency": 1,
        "operands": operands,
        "ports": [
            {
                "name": f"{kind}_port_1",
                "type": types[kind],
                "bandwidth_min": narrow,
                "bandwidth_max": wide,
                "allocation": allocation,
            }
            for kind, allocation in kinds.items()
        ],
        "served_dimensions": served,
    }


def memory_pj(size_bytes: ArrayLike) -> Array:
    """Picojoules to access a bit of a memory of that size.

    Straight lines through `MEMORY_PJ` in double logarithms, the outer ones continued.

    >>> print(memory_pj([128, 8192, 1048576]) * 64)
    [  2.  10. 100.]
    """
    x, y = np.log(list(MEMORY_PJ)), np.log(list(MEMORY_PJ.values()))
    at = np.log(np.asarray(size_bytes, float))
    piece = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    slope = np.diff(y) / np.diff(x)
    return np.asarray(np.exp(y[piece] + slope[piece] * (at - x[piece])), float)


@attrs.frozen(eq=False)
class Work:
    """Products of matrices, `(n,)` each: what layers come down to.

    Attributes:
        positions: M, rows of the left matrix: the output's positions.
        filters: N, columns of the right one: the output's channels in a group.
        sums: Q, what is summed over: the input's channels in a group times the kernel.
        groups: G, independent products.
    """

    positions: Array
    filters: Array
    sums: Array
    groups: Array

    @property
    def macs(self) -> Array:
        """Multiply-accumulate operations."""
        return self.positions * self.filters * self.sums * self.groups


def array_cycles(work: Work, edge: Edge) -> Array:
    """Cycles of the array, `(n,)`, if it never waits: one for each time that it is filled.

    ceil(along rows / rows) ceil(along columns / columns) times what is left.

    >>> one = Work(*np.array([[100.0], [24.0], [20.0], [1.0]]))
    >>> print(array_cycles(one, Edge(rows=16, columns=16)))  # 2 x 2 times 100 positions
    [400.]
    """
    m, n, q = work.positions, work.filters * work.groups, work.sums
    rows, columns, time = {
        "weight": (q, n, m),
        "output": (m, n, q),
        "input": (q, m, n),
    }[edge.dataflow]
    return np.asarray(np.ceil(rows / edge.rows) * np.ceil(columns / edge.columns) * time, float)


def buffer_bits(work: Work, edge: Edge) -> Array:
    """Bits that the array reads from the global buffer and writes to it, `(n,)`.

    The operand that stays comes (or goes) once. What moves comes again for each part of the other
    that the array holds; the L numbers of a local buffer make the array L times as large, along rows
    or along columns, whichever takes less. With R rows and C columns then

        weight: NQG + MQG ceil(N / C) + sums
        input:  MQG + NQG ceil(M / C) + sums
        output: NQG ceil(M / R) + MQG ceil(N / C) + MNG

    numbers pass. Sums that do not fit the rows are written and read again: `sums` = MNG, and twice
    the wider MNG for each further one of the ceil(Q / R) parts.
    """
    kept = 8 * edge.local_bytes // (SUM_BITS if edge.dataflow == "output" else BITS)
    tall = _passing(work, edge.dataflow, kept * edge.rows, edge.columns)
    return np.minimum(tall, _passing(work, edge.dataflow, edge.rows, kept * edge.columns))


def _passing(work: Work, dataflow: str, rows: int, columns: int) -> Array:
    m, n, q, g = work.positions, work.filters, work.sums, work.groups
    weights, inputs, outputs = n * q * g * BITS, m * q * g * BITS, m * n * g
    if dataflow == "output":
        again = weights * np.ceil(m / rows) + inputs * np.ceil(n / columns)
        return np.asarray(again + outputs * BITS, float)
    sums = outputs * (BITS + 2 * SUM_BITS * (np.ceil(q / rows) - 1))
    if dataflow == "weight":
        return np.asarray(weights + inputs * np.ceil(n / columns) + sums, float)
    return np.asarray(inputs + weights * np.ceil(m / columns) + sums, float)


def mac_pj(edge: Edge) -> float:
    """Picojoules of an operation at its multiplier: arithmetic, two operands, a sum in and out.

    What stays is in the local buffer, the rest in registers of its own width.
    """
    operand = BITS * float(memory_pj(BITS / 8))
    total = 2 * SUM_BITS * float(memory_pj(SUM_BITS / 8))
    local = float(memory_pj(edge.local_bytes))
    if edge.dataflow == "output":
        return MAC_PJ + 2 * operand + 2 * SUM_BITS * local
    return MAC_PJ + operand + BITS * local + total


def memory_bits(
    macs: ArrayLike, weights: ArrayLike, others: ArrayLike, edge: Edge, keep: bool
) -> Array:
    """Bits to and from external memory, `(n,)`.

    Each tensor passes once, or as often as the global buffer of S numbers makes necessary: at least
    2 MACs / sqrt(S) numbers (G. Kwasniewski et al., "Red-Blue Pebbling Revisited", SC 2019, Theorem
    1, for matrix products). Where activations are kept, those that fit the buffer do not pass.

    Args:
        macs: multiply-accumulate operations.
        weights: bits of stored weights.
        others: bits of inputs and outputs.
        edge: the accelerator.
        keep: whether activations stay in the buffer from layer to layer.
    """
    size = 8192.0 * edge.buffer_kb
    weights, others = np.asarray(weights, float), np.asarray(others, float)
    least = 2 * np.asarray(macs, float) / math.sqrt(size / BITS) * BITS
    passing = np.maximum(weights + others, least)
    return np.where(keep & (others <= size), weights, passing)
