"""Multiply-accumulate operations of one forward pass."""

from __future__ import annotations

import attrs
import torch
from torch.utils.flop_counter import FlopCounterMode

from symnas import Architecture, CostModel
from symnas.costs.layers import example, meta_module, run


@attrs.frozen
class Macs(CostModel):
    """Multiply-accumulates of one example: half of the FLOPs that torch counts.

    Convolutions, matrix products and attention count; element-wise operations, normalisation and
    pooling do not, as in the literature.

    >>> import symnas as sn
    >>> Macs().measure(sn.Architecture(sn.nn.Linear(4, 2), input=(4,)))
    8.0
    """

    name: str = "macs"
    unit: str = "MACs"

    def measure(self, architecture: Architecture) -> float:
        """MACs of one forward pass, counted on the meta device."""
        module = meta_module(architecture)
        x = example(architecture, "The cost 'macs'")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(module, x, architecture)
        return counter.get_total_flops() / 2
