"""The number of parameters."""

from __future__ import annotations

import attrs

from symnas import Architecture, CostModel
from symnas.costs.layers import meta_module


@attrs.frozen
class Parameters(CostModel):
    """How many parameters a network has; shared ones count once, buffers do not.

    >>> import symnas as sn
    >>> Parameters().measure(sn.Architecture(sn.nn.Linear(4, 2)))
    10.0
    """

    name: str = "parameters"
    unit: str = "parameters"

    def measure(self, architecture: Architecture) -> float:
        """The number of parameters, from a copy of the network without data."""
        return float(sum(p.numel() for p in meta_module(architecture).parameters()))
