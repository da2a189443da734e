"""How much data operations move, if each tensor is read or written once."""

from __future__ import annotations

import attrs
import torch

from symnas.costs.pieces import Operation

ELEMENTWISE = ("fused", "memory")  # what becomes of operations that multiply and accumulate nothing


@attrs.frozen
class Traffic:
    """Bits that an operation reads and writes.

    Attributes:
        weights: read from what is stored between runs: parameters of convolutions and linear layers.
        reads: read from other operations' results.
        writes: written as results.
    """

    weights: float
    reads: float
    writes: float

    @property
    def total(self) -> float:
        """Bits moved in all."""
        return self.weights + self.reads + self.writes


def traffic_of(
    operation: Operation, parameters: tuple[torch.Tensor, ...] = (), bits: int | None = None
) -> Traffic:
    """What an operation reads and writes, each tensor once; nothing for mere views.

    Args:
        operation: with tensors of the meta device.
        parameters: the tensors that are stored weights.
        bits: of one number, instead of those of its type; whole numbers (indices) keep theirs.
    """
    if operation.op.is_view or operation.op.overloadpacket.__name__ in _VIEWS:
        return Traffic(0.0, 0.0, 0.0)
    stored = {_address(p) for p in parameters}
    weights = reads = 0.0
    seen: set[int] = set()
    for tensor in operation.inputs:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            if _address(tensor) in stored:
                weights += _bits(tensor, bits)
            else:
                reads += _bits(tensor, bits)
    return Traffic(weights, reads, sum(_bits(t, bits) for t in operation.outputs))


# Views in all but name: torch makes them where a view's tensor is used nowhere else.
_VIEWS = ("_unsafe_view", "_reshape_alias")


def _address(tensor: torch.Tensor) -> int:
    """Equal for a tensor and its views: a linear layer multiplies by its weight's transpose."""
    return int(tensor.untyped_storage()._cdata)


def _bits(tensor: torch.Tensor, bits: int | None) -> float:
    if bits is None or not (tensor.is_floating_point() or tensor.is_complex()):
        return float(tensor.numel() * tensor.element_size() * 8)
    return float(tensor.numel() * bits)
