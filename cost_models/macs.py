"""The number of multiply-accumulate operations of a network."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from symnas.architecture.architecture import Architecture
from symnas.costs.layers import run_shapes, shape_network
from symnas.costs.model import CostModel


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

    def measure(self, architecture: Architecture) -> float:
        network = shape_network(architecture)
        assert architecture.input is not None
        with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
            run_shapes(network, architecture.input)
        return float(counter.get_total_flops() // 2)


def _trilinear(
    a: Any, b: Any, c: Any, expand_a: Any, expand_b: Any, expand_c: Any, *args: Any, **kwargs: Any
) -> int:
    """FLOPs of `nn.Bilinear`, which torch does not count: (batch, out, in1, in2) multiplications."""
    shapes = []
    for shape, expand in ((a, expand_a), (b, expand_b), (c, expand_c)):
        sizes = list(shape)
        for dimension in sorted(expand):
            sizes.insert(dimension, 1)
        shapes.append(sizes)
    return 2 * math.prod(np.broadcast_shapes(*map(tuple, shapes)))


_MORE = {torch.ops.aten._trilinear: _trilinear}
