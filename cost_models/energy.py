"""Energy and cycles on an accelerator that exists as a description, by ZigZag's cost model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from symnas.architecture.architecture import Architecture
from symnas.costs.accelerators.edge import Edge
from symnas.costs.accelerators.hardware import Hardware, installed, load, zigzag_version
from symnas.costs.accelerators.mapper import OBJECTIVES, Mapper
from symnas.costs.accelerators.nests import Nest, Untranslated, nests_of
from symnas.costs.accelerators.traffic import ELEMENTWISE, traffic_of
from symnas.costs.model import CostFailed, CostModel
from symnas.costs.pieces import Operation, Piece
from symnas.costs.record import pieces_of
from symnas.searching.checks import at_least, one_of

_MICRO = 1e-6  # microjoules in a picojoule


def _name_or_edge(accelerator: Any) -> str | Edge:
    return accelerator if isinstance(accelerator, Edge) else str(accelerator)


@attrs.frozen(order=False)
class _OnAccelerator(CostModel):
    accelerator: str | Edge = attrs.field(default="eyeriss_like", converter=_name_or_edge)
    lpf_limit: int = attrs.field(default=6, validator=at_least(1))
    workers: int = attrs.field(default=2, validator=at_least(1), eq=False)
    objective: str = attrs.field(default="edp", validator=one_of(OBJECTIVES), kw_only=True)
    spatial_mappings: int = attrs.field(default=3, validator=at_least(1), kw_only=True)
    bits: int = attrs.field(default=8, validator=at_least(1), kw_only=True)
    partial_bits: int = attrs.field(default=16, validator=at_least(1), kw_only=True)
    elementwise: str = attrs.field(default="fused", validator=one_of(ELEMENTWISE), kw_only=True)
    mapping: str | None = attrs.field(
        default=None, converter=attrs.converters.optional(str), kw_only=True
    )
    name: str = attrs.field(default="energy", kw_only=True)

    unit = "uJ"
    expense: ClassVar[int] = 7

    def __attrs_post_init__(self) -> None:
        if installed():
            self._hardware()  # a wrong name is told now, not after a space has been explored

    @property
    def device(self) -> str:
        return "edge" if isinstance(self.accelerator, Edge) else Path(self.accelerator).stem

    @property
    def device_name(self) -> str:
        """The description's name and digest, and ZigZag's version."""
        hardware = self._hardware()
        return f"{hardware.name} {hardware.digest} (zigzag {zigzag_version()})"

    @property
    def needs_input(self) -> bool:
        return True

    def measure(self, architecture: Architecture) -> float:
        return math.fsum(self.price([piece for _, piece in pieces_of(architecture)]))

    def price(self, pieces: Sequence[Piece]) -> list[float]:
        """The cost of each piece; distinct layers are mapped once, in parallel processes.

        Raises:
            CostFailed: an operation cannot be put on loops.
            MappingFailed: a layer fits no mapping.
        """
        hardware = self._hardware()
        plans = [[(op, nests_in(op, piece)) for op in piece.operations] for piece in pieces]
        mapper = Mapper(
            hardware,
            self.lpf_limit,
            self.spatial_mappings,
            self.bits,
            self.partial_bits,
            self.workers,
        )
        distinct = dict.fromkeys(nest for plan in plans for _, nests in plan for nest in nests)
        found = mapper.map(distinct)
        costs = []
        for piece, plan in zip(pieces, plans, strict=True):
            parts = [
                self._pick(*found[nest][self.objective]) for _, nests in plan for nest in nests
            ]
            if self.elementwise == "memory":
                parts += [self._move(op, piece, hardware) for op, nests in plan if not nests]
            costs.append(math.fsum(parts))
        return costs

    def describe(self) -> dict[str, Any]:
        described = super().describe()
        del described["options"]["workers"]  # changes nothing but the time
        return described

    def _pick(self, picojoules: float, cycles: float) -> float:
        return picojoules * _MICRO

    def _move(self, operation: Operation, piece: Piece, hardware: Hardware) -> float:
        moved = traffic_of(operation, piece.parameters, self.bits)
        return self._pick(*hardware.outermost(moved.weights + moved.reads, moved.writes))

    def _hardware(self) -> Hardware:
        if isinstance(self.accelerator, Edge):
            return self.accelerator.hardware()
        return load(self.accelerator, self.mapping)


@attrs.frozen(order=False)
class Energy(_OnAccelerator):
    """Microjoules for one example on an accelerator, by ZigZag.

    Convolutions, linear layers and matrix products are put on the accelerator's array layer by
    layer: mappings are searched (spatial ones among the best used, temporal ones by LOMA), and each
    is priced by its accesses to every memory and its multiply-accumulate operations (L. Mei et al.,
    "ZigZag", IEEE Transactions on Computers 70(8), 2021). Every layer reads its input from the
    outermost memory and writes its output back there.

    A distinct layer takes a second to a minute, once: results are kept on disk by description,
    version, options and shape (`symnas.costs.cache.cache_folder`), and `cm.Cycles` shares them.
    A layer's loops are cut into prime factors and joined again until no more than `lpf_limit` are
    left, whose orders are all tried: a larger limit finds better mappings, and takes longer by a
    factor of about `lpf_limit`.

    Args:
        accelerator: "eyeriss_like", "edge_tpu_like", "tpu_like" or another description that comes
            with ZigZag, or the path of one's own in the same format (.yaml), or an `Edge` of
            `symnas.costs.accelerators.edge`, whose mapping is its dataflow. What the array of
            "edge_tpu_like" and "tpu_like" runs in parallel is fixed, elsewhere it is searched.
        lpf_limit: the most loops whose orders are tried.
        workers: processes.
        objective: of the mapping of each layer: "energy", "latency", or "edp" (their product),
            under which energy and cycles hold together.
        spatial_mappings: how many ways to use the array are tried for a layer.
        bits: of weights, inputs and outputs. The description's energies belong to its own width.
        partial_bits: of sums that are not complete.
        elementwise: what normalisation, activations, pooling and additions cost: "fused", nothing,
            as they are done in passing and normalisation is folded into weights; or "memory", a
            trip of their inputs and outputs from and to the outermost memory.
        mapping: the path of a mapping in ZigZag's format, instead of what is said above.
        name: another one, where a search has two energies.

    Raises:
        ValueError: an option is out of range, or there is no such description.
        MissingExtra: ZigZag is not installed (when measuring).
        CostFailed: an operation multiplies and accumulates, and has no loops.
        MappingFailed: a layer does not fit the accelerator.

    >>> model = Energy("edge_tpu_like", lpf_limit=5)
    >>> print(model, model.unit, model.device, model <= 400)
    energy uJ edge_tpu_like energy <= 400 uJ
    """


@attrs.frozen(order=False)
class Cycles(_OnAccelerator):
    """Clock cycles for one example on an accelerator, by ZigZag.

    The latency of the same mappings as those of `Energy`, whose options it has: loading, computing
    and writing back, layer after layer.

    >>> print(Cycles("tpu_like") <= 1e6)
    cycles <= 1,000,000
    """

    name: str = attrs.field(default="cycles", kw_only=True)
    unit = "cycles"

    def _pick(self, picojoules: float, cycles: float) -> float:
        return cycles


def nests_in(operation: Operation, piece: Piece) -> tuple[Nest, ...]:
    """The loops of an operation of a piece.

    Raises:
        CostFailed: it multiplies and accumulates, and has none.
    """
    try:
        return nests_of(operation)
    except Untranslated as error:
        raise CostFailed(
            f"The layer {piece.kind} cannot be put on an accelerator: {error}"
        ) from None
