"""`BoundCost`: a cost model bound to a space, as a function of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from symnas.costs.reach import DEAR, Reach

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]


class Range(NamedTuple):
    """The smallest and the largest cost found, and rows that reach them.

    `evaluations` says how many architectures were measured for it, `exact` whether those were all
    of the space; if not, there may be smaller and larger ones.
    """

    low: float
    high: float
    row_low: Rows
    row_high: Rows
    evaluations: int
    exact: bool


class BoundCost:
    """The cost of each row of a space.

    Architectures are measured when they are first asked for, and remembered. Values of choices
    in a task's arguments do not matter: the network is the same.

    Attributes:
        model, space: what is bound.
        name, unit, device: of the model; `device` in full.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    >>> parameters = cm.Parameters().bind(space)
    >>> parameters([[0], [1]])
    array([40., 80.])
    >>> parameters.range()[:2]
    (40.0, 80.0)
    """

    def __init__(self, model: CostModel, space: Space) -> None:
        self.model = model
        self.space = space
        self.name = model.name
        self.unit = model.unit
        self.device = model.device_name
        # Rows, not `space.keys`: networks that a space calls the same may still differ in cost.
        self._of_row: dict[bytes, float] = {}
        self._of_network: dict[str, float] = {}

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """The costs of `rows`, `(n, columns)`, as `(n,)` float64.

        Raises:
            ValueError: `rows` are not rows of this space.
            CostFailed: an architecture could not be measured.
        """
        rows = np.ascontiguousarray(rows, np.int32)
        if rows.ndim != 2 or rows.shape[1] != len(self.space):
            raise ValueError(
                f"`rows` of shape {rows.shape} must be (n, {len(self.space)}): one row an "
                "architecture. For a single row pass row[None]."
            )
        return np.array([self._cost(row) for row in rows], np.float64)

    def measure(self, architecture: Architecture) -> float:
        """The cost of an architecture, measured by the model itself, not remembered here."""
        return self.model(architecture)

    @property
    def measured(self) -> int:
        """How many different rows have been asked for."""
        return len(self._of_row)

    @property
    def dear(self) -> bool:
        """Whether measuring is so dear that as few architectures as possible should be."""
        return self.model.expense >= DEAR

    def range(self, seed: Seed = 0, evaluations: int | None = None) -> Range:
        """The smallest and the largest cost found.

        A space of up to `evaluations` architectures is measured wholly. Of a larger one, random
        rows are measured first (a quarter of the evaluations), then from the best and the worst
        of them one decision at a time is changed to where the cost is smallest or largest.

        Args:
            seed: of the random rows.
            evaluations: the most rows to be measured; None: 512, for dear costs 96.

        Raises:
            ValueError: the space's `valid` excludes every row that was drawn.
        """
        reach = Reach(self.space, seed)
        budget = evaluations or (96 if self.dear else 512)
        rows = reach.all_rows(budget)
        exact = rows is not None
        if rows is None:
            rows = reach.random_rows(max(1, budget // 4))
        if not len(rows):
            raise ValueError(
                f"{self.name}: the space's `valid` excludes all rows that were drawn, so there is "
                "no range to tell."
            )
        values = self(rows)
        row_low, row_high = rows[values.argmin()], rows[values.argmax()]
        used = len(rows)
        if not exact:
            down = reach.descend(lambda r: self(r), row_low, (budget - used) // 2)
            up = reach.descend(lambda r: -self(r), row_high, budget - used - down.evaluations)
            row_low, row_high = down.row, up.row
            used += down.evaluations + up.evaluations
        low, high = self(np.stack([row_low, row_high])).tolist()
        return Range(low, high, row_low, row_high, used, exact)

    def __repr__(self) -> str:
        return f"BoundCost({self.model!r}, {self.space!r})"

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


def network_key(architecture: Architecture) -> str:
    """The architecture's key without the values of choices in the task's arguments."""
    if not architecture.task:
        return architecture.key
    from symnas.architecture.storage import content_key

    return content_key(architecture.program, {}, architecture.input)
