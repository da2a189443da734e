"""Pieces: the distinct parts of a network's execution that costs are put on."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

Tensors = tuple[torch.Tensor, ...]


@attrs.frozen(eq=False)
class Operation:
    """One operation of torch, on tensors of the meta device.

    Attributes:
        op: such as `torch.ops.aten.convolution.default`.
        args, kwargs: of the call.
        outputs: the tensors that it gave.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Tensors

    @property
    def inputs(self) -> Tensors:
        """The tensors among the arguments."""
        return tensors((self.args, self.kwargs))


@attrs.frozen(eq=False)
class Piece:
    """A layer in one call, or one operation between layers: equal ones cost the same.

    Attributes:
        key: a text that is equal for equal pieces, in every process: the kind of layer, its plain
            attributes, and the shapes of its parameters, inputs and outputs.
        module: the layer, on the meta device; None for an operation between layers. Copy it before
            giving it memory: other pieces may hold the same object.
        inputs: the tensors among the arguments.
        outputs: the tensors that it gives.
        operations: the operations run inside; exactly one for an operation between layers.
        parameters: the layer's own.
    """

    key: str
    module: torch.nn.Module | None
    inputs: Tensors
    outputs: Tensors
    operations: tuple[Operation, ...]
    parameters: Tensors = ()

    @property
    def kind(self) -> str:
        """For people: `Conv2d`, or the name of an operation between layers, `add`."""
        if self.module is not None:
            return type(self.module).__name__
        return str(self.operations[0].op.overloadpacket.__name__) if self.operations else "storage"


def tensors(value: Any) -> Tensors:
    """The tensors in a nested structure, in order."""
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def macs_of(piece: Piece) -> float:
    """Multiply-accumulate operations of a piece, by torch's formulas: half of its FLOPs."""
    return sum(flops_of(operation) for operation in piece.operations) // 2


def flops_of(operation: Operation) -> int:
    """Floating-point operations by torch's formulas; 0 for what they do not know."""
    formula = flop_registry.get(operation.op.overloadpacket) or _MORE.get(
        operation.op.overloadpacket
    )
    if formula is None:
        return 0
    out = operation.outputs[0] if len(operation.outputs) == 1 else operation.outputs
    return int(formula(*operation.args, **operation.kwargs, out_val=out))


def bytes_of(parts: Tensors) -> int:
    """The memory of tensors, in bytes."""
    return sum(t.numel() * t.element_size() for t in parts)


def _trilinear(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    expand_a: Any,
    expand_b: Any,
    expand_c: Any,
    *args: Any,
    **kwargs: Any,
) -> int:
    """FLOPs of `nn.Bilinear`, which torch does not count: (batch, out, in1, in2) products."""
    import math

    shapes = []
    for tensor, expand in ((a, expand_a), (b, expand_b), (c, expand_c)):
        sizes = list(tensor.shape)
        for dimension in sorted(expand):
            sizes.insert(dimension, 1)
        shapes.append(torch.Size(sizes))
    shape: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return 2 * math.prod(shape)


_MORE = {torch.ops.aten._trilinear: _trilinear}
