"""`MeasuredCost`: each architecture is measured when it is first asked for, and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost, Rows, is_dear, network_key

if TYPE_CHECKING:
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space


class MeasuredCost(BoundCost):
    """The cost of rows by `model.measure`.

    >>> import symnas as sn
    >>> class Depth(sn.CostModel):
    ...     unit = "layers"
    ...     def measure(self, architecture):
    ...         return len(architecture.build())
    >>> space = sn.Space(sn.repeat(lambda i: sn.nn.ReLU(), times=sn.intv(1, 4)))
    >>> Depth().bind(space)([[0], [3]])
    array([1., 4.])
    """

    def __init__(self, model: CostModel, space: Space, note: str = "") -> None:
        super().__init__(model, space, note=note)
        # Rows, not `space.keys`: networks that a space calls the same may still differ in cost.
        self._of_row: dict[bytes, float] = {}
        self._of_network: dict[str, float] = {}

    @property
    def measured(self) -> int:
        return len(self._of_row)

    @property
    def dear(self) -> bool:
        return is_dear(self.model)

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        return np.array([self._cost(row) for row in rows], np.float64)

    def _cost(self, row: Rows) -> float:
        key = row.tobytes()
        found = self._of_row.get(key)
        if found is None:
            architecture = self.space.decode(row)
            network = network_key(architecture)
            found = self._of_network.get(network)
            if found is None:
                found = self._of_network[network] = self.model(architecture)
            self._of_row[key] = found
        return found
