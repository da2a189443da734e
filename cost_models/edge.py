"""Latency, energy and area of an edge accelerator whose sizes and dataflow may be searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray
from symnas.cost_models.energy import Cycles, Energy, nests_in

from symnas.architecture.architecture import Architecture
from symnas.costs.accelerators import edge as model
from symnas.costs.accelerators.edge import BITS, DATAFLOWS, DRAM_PJ, SUM_BITS, Edge, Work
from symnas.costs.accelerators.traffic import traffic_of
from symnas.costs.bound import BoundCost
from symnas.costs.bound_measured import MeasuredCost
from symnas.costs.bound_table import TableCost
from symnas.costs.hardware import or_choice
from symnas.costs.model import CostModel
from symnas.costs.pieces import Piece
from symnas.costs.record import pieces_of
from symnas.costs.table import CostTable
from symnas.searching.checks import at_least, number, one_of
from symnas.searchspace.parts import Part
from symnas.searchspace.space import Space

Array = NDArray[np.float64]
_positive = or_choice(number(0, inside=True))


@attrs.frozen(order=False)
class _OnEdge(CostModel):
    """The options of an `Edge`, each of which may be a choice."""

    rows: Any = attrs.field(default=16, validator=or_choice(at_least(1)))
    columns: Any = attrs.field(default=16, validator=or_choice(at_least(1)))
    local_bytes: Any = attrs.field(default=64, validator=or_choice(at_least(3)))
    buffer_kb: Any = attrs.field(default=128, validator=or_choice(at_least(1)))
    bandwidth: Any = attrs.field(default=2e9, validator=_positive)
    dataflow: Any = attrs.field(default="weight", validator=or_choice(one_of(DATAFLOWS)))
    clock: Any = attrs.field(default=200e6, validator=_positive)

    @property
    def edge(self) -> Edge:
        """The accelerator; only where no option is a choice."""
        return Edge(**{field.name: getattr(self, field.name) for field in attrs.fields(Edge)})


@attrs.frozen(order=False)
class EdgeArea(_OnEdge):
    """Square millimetres of an edge accelerator at 45 nm: array, buffer and memory port.

    rows columns (multiplier + (8 local_bytes + 32) register bits) + buffer + bandwidth * port, with
    the constants and sources of `symnas.costs.accelerators.edge`. They are for comparisons: control,
    clock trees and wires between parts are left out.

    Args:
        rows, columns, local_bytes, buffer_kb, bandwidth, dataflow, clock: the accelerator's, or
            choices of them, best those of `symnas.spaces.accelerators.edge_accelerator()`.
        name: another one.

    Raises:
        TypeError, ValueError: an option is out of range.

    >>> import symnas as sn
    >>> any_network = sn.Architecture(sn.nn.ReLU())
    >>> round(EdgeArea(rows=16, columns=16)(any_network), 2)
    2.06
    """

    name: str = attrs.field(default="area", kw_only=True)
    unit = "mm2"
    expense: ClassVar[int] = 1

    def measure(self, architecture: Architecture) -> float:
        return self.edge.area_mm2

    def _bound(self, space: Space) -> BoundCost:
        return TableCost(self, space, CostTable(self.edge.area_mm2, []))  # whatever the network


@attrs.frozen(order=False)
class _Running(_OnEdge):
    by: str = attrs.field(
        default="roofline", validator=one_of(("roofline", "zigzag")), kw_only=True
    )
    activations: str = attrs.field(
        default="buffer", validator=one_of(("buffer", "memory")), kw_only=True
    )
    lpf_limit: int = attrs.field(default=6, validator=at_least(1), kw_only=True)
    workers: int = attrs.field(default=2, validator=at_least(1), eq=False, kw_only=True)

    expense: ClassVar[int] = 2

    @property
    def needs_input(self) -> bool:
        return True

    def measure(self, architecture: Architecture) -> float:
        return math.fsum(self.price([piece for _, piece in pieces_of(architecture)]))

    def price(self, pieces: Sequence[Piece]) -> Sequence[float]:
        """The cost of each piece."""
        if self.by == "zigzag":
            return self._mapped(pieces)
        return [float(cost) for cost in self.price_each(pieces, [self])[0]]

    def price_each(self, pieces: Sequence[Piece], models: Sequence[_Running]) -> Array:
        """The cost of each piece by each of several such models, `(models, pieces)`.

        What the layers need is counted once for all machines.
        """
        needs = _Needs.of(pieces)
        return np.array([needs.summed(each._costs(needs)) for each in models], float)

    def bind(self, space: Space) -> BoundCost:
        if self.by == "zigzag" and self._has_choices and not isinstance(space, Part):
            # A table would map every layer on every accelerator.
            return MeasuredCost(self, space, note="each accelerator is mapped when asked for")
        return super().bind(space)

    def describe(self) -> dict[str, Any]:
        described = super().describe()
        del described["options"]["workers"]  # changes nothing but the time
        return described

    def _costs(self, needs: _Needs) -> Array:
        """The cost of each operation."""
        raise NotImplementedError

    def _mapped(self, pieces: Sequence[Piece]) -> list[float]:
        """The cost of each piece by ZigZag."""
        raise NotImplementedError

    def _on_zigzag(self) -> dict[str, Any]:
        limits = {"lpf_limit": self.lpf_limit, "workers": self.workers}
        return {"accelerator": self.edge, "bits": BITS, "partial_bits": SUM_BITS, **limits}


@attrs.frozen(order=False)
class EdgeLatency(_Running):
    """Milliseconds for one example on an edge accelerator.

    With `by="roofline"` each layer takes the longer of computing and moving data,

        max(array cycles / clock, bytes of external memory / bandwidth),

    the roofline model (S. Williams et al., CACM 52(4), 2009) with a roof of the array that is lower
    where a layer does not fill it: `array_cycles` and `memory_bits` in
    `symnas.costs.accelerators.edge` are the formulas. With `by="zigzag"` each layer's mapping is
    searched, as by `cm.Cycles` on the same array, memories and dataflow.

    Normalisation, activations, pooling and additions are done in passing, for nothing.

    Args:
        rows, columns, local_bytes, buffer_kb, bandwidth, dataflow, clock: the accelerator's, or
            choices of them, best those of `symnas.spaces.accelerators.edge_accelerator()`.
        by: "roofline", or "zigzag", which takes about a second for a new layer on a new accelerator.
        activations: "buffer": a layer whose inputs and outputs fit the global buffer together takes
            and leaves them there; "memory": every layer reads its inputs from external memory and
            writes its outputs there, as ZigZag always has it.
        lpf_limit, workers: of ZigZag, see `cm.Energy`.
        name: another one, where a search has two latencies.

    Raises:
        TypeError, ValueError: an option is out of range.
        MissingExtra: ZigZag is not installed (when measuring by it).
        CostFailed: an operation multiplies and accumulates, and has no loops.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(1600, 160, bias=False), input=(1600,))
    >>> EdgeLatency(rows=16, columns=16, bandwidth=1e12)(net)  # 100 x 10 cycles of 5 nanoseconds
    0.005
    >>> EdgeLatency(rows=16, columns=16, bandwidth=1e9)(net)  # 256,000 bytes of weights
    0.256
    """

    name: str = attrs.field(default="latency", kw_only=True)
    unit = "ms"

    def _costs(self, needs: _Needs) -> Array:
        edge = self.edge
        computing = needs.each(model.array_cycles(needs.work, edge)) / edge.clock
        moved = needs.memory_bits(edge, self.activations == "buffer")
        return np.maximum(computing, moved / 8 / edge.bandwidth) * 1e3

    def _mapped(self, pieces: Sequence[Piece]) -> list[float]:
        cycles = Cycles(**self._on_zigzag()).price(pieces)
        return [1e3 * count / self.edge.clock for count in cycles]


@attrs.frozen(order=False)
class EdgeEnergy(_Running):
    """Microjoules for one example on an edge accelerator.

    With `by="roofline"`, the energy that goes with the data that the roofline moves: M operations,
    A bits between array and buffer, D bits between buffer and external memory take

        energy = M e_mac + (A + D) e_buffer + D e_memory

    with the constants, sources and formulas of `symnas.costs.accelerators.edge` (`mac_pj`,
    `buffer_bits`, `memory_bits`, 45 nm). With `by="zigzag"` each layer's mapping is searched, and
    accesses counted, as by `cm.Energy`, with the same energies.

    The other arguments and errors are those of `EdgeLatency`; energy and latency multiply to an
    energy-delay product, `(EdgeEnergy(...) * EdgeLatency(...)).named("edp")`.

    >>> import symnas as sn
    >>> net = sn.Architecture(sn.nn.Linear(1600, 160, bias=False), input=(1600,))
    >>> round(EdgeEnergy()(net), 1)  # 41.6 of it for weights from external memory
    44.3
    """

    name: str = attrs.field(default="energy", kw_only=True)
    unit = "uJ"

    def _costs(self, needs: _Needs) -> Array:
        edge = self.edge
        moved = needs.memory_bits(edge, self.activations == "buffer")
        buffer = needs.each(model.buffer_bits(needs.work, edge)) + moved
        bit = float(model.memory_pj(1024 * edge.buffer_kb))
        return (needs.macs * model.mac_pj(edge) + buffer * bit + moved * DRAM_PJ) * 1e-6

    def _mapped(self, pieces: Sequence[Piece]) -> list[float]:
        return Energy(**self._on_zigzag()).price(pieces)


@attrs.frozen(eq=False)
class _Needs:
    """What n operations of p pieces need of any machine."""

    work: Work  # of their loop nests
    operation: NDArray[np.int64]  # of each nest
    macs: Array  # (n,)
    weights: Array  # bits, (n,)
    others: Array  # bits, (n,)
    piece: NDArray[np.int64]  # of each operation
    pieces: int

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> _Needs:
        nests: list[tuple[float, ...]] = []
        operation: list[int] = []
        moved: list[tuple[float, float]] = []
        owner: list[int] = []
        for index, piece in enumerate(pieces):
            for op in piece.operations:
                found = nests_in(op, piece)
                for nest in found:
                    positions = nest.batch * math.prod(nest.positions)
                    sums = nest.inputs * math.prod(nest.kernel)
                    nests.append((positions, nest.outputs, sums, nest.groups))
                    operation.append(len(moved))
                if found:
                    traffic = traffic_of(op, piece.parameters, BITS)
                    moved.append((traffic.weights, traffic.reads + traffic.writes))
                    owner.append(index)
        work = Work(*np.array(nests, float).reshape(-1, 4).T)
        bits = np.array(moved, float).reshape(-1, 2)
        belongs = np.array(operation, np.int64)
        macs = _sums(belongs, work.macs, len(owner))
        return cls(
            work, belongs, macs, bits[:, 0], bits[:, 1], np.array(owner, np.int64), len(pieces)
        )

    def each(self, of_nests: Array) -> Array:
        """Sums for operations, `(n,)`, of what their nests need."""
        return _sums(self.operation, of_nests, len(self.macs))

    def summed(self, costs: Array) -> Array:
        """Sums for pieces, `(p,)`, of what their operations cost."""
        return _sums(self.piece, costs, self.pieces)

    def memory_bits(self, edge: Edge, keep: bool) -> Array:
        return model.memory_bits(self.macs, self.weights, self.others, edge, keep)


def _sums(owner: NDArray[np.int64], values: Array, n: int) -> Array:
    return np.asarray(np.bincount(owner, values, n), float)
