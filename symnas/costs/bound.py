"""`BoundCost`: a cost model bound to a space, as a function of rows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from symnas.costs.reach import DEAR, Reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from symnas.architecture.architecture import Architecture
    from symnas.costs.accuracy import Accuracy
    from symnas.costs.comparison import Limits
    from symnas.costs.independent import Probabilities
    from symnas.costs.limits import Ceiling, Limit
    from symnas.costs.model import CostModel
    from symnas.costs.table import CostTable
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]

# Rows from which an expectation is estimated where it cannot be computed: cheap costs, dear ones.
DRAWN, DEAR_DRAWN = 1024, 64


class Bounds(NamedTuple):
    """Limits on sums of tables, and on the largest of some terms; all are to be kept."""

    sums: tuple[Limit, ...] = ()
    maxima: tuple[Ceiling, ...] = ()


class Range(NamedTuple):
    """The smallest and the largest cost found, and rows that reach them.

    `evaluations` says how many architectures were costed for it, `exact` whether there can be no
    smaller and no larger cost.
    """

    low: float
    high: float
    row_low: Rows
    row_high: Rows
    evaluations: int
    exact: bool


class BoundCost:
    """The cost of each row of a space.

    Kinds of bound costs write `_costs(rows)`; those that are tables (`table` is not None) compute
    expectations, ranges and shares exactly, others estimate them. Values of choices in a task's
    arguments do not matter: the network is the same.

    Attributes:
        model, space: what is bound.
        name, unit, device: of the model; `device` in full.
        error: how far predictions were from the truth on held-out architectures; None where each
            cost is measured.
        note: why the cost is not a table, where it might have been; "" otherwise.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16])), input=(4,))
    >>> parameters = cm.Parameters().bind(space)
    >>> parameters([[0], [1]])
    array([40., 80.])
    >>> parameters.range()[:2]
    (40.0, 80.0)
    >>> float(parameters.expected({"out_features": [0.25, 0.75]}))
    70.0
    """

    table: ClassVar[CostTable | None] = None

    def __init__(
        self,
        model: CostModel,
        space: Space,
        error: Accuracy | None = None,
        note: str = "",
    ) -> None:
        self.model = model
        self.space = space
        self.name = model.name
        self.unit = model.unit
        self.device = model.device_name
        self.error = error
        self.note = note

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
        return self._costs(rows)

    def _costs(self, rows: Rows) -> NDArray[np.float64]:
        raise NotImplementedError

    def expected(self, probabilities: Probabilities | None = None) -> torch.Tensor:
        """The mean cost when each decision is drawn independently: a scalar, in float64.

        Estimated from 1,024 seeded rows (64 where costs are dear); the gradient is that of the
        likelihood ratio, without bias (R. Williams, "Simple statistical gradient-following
        algorithms", Machine Learning 1992, Section 3).

        Args:
            probabilities: decision id to `(candidates,)`; decisions left out are uniform. A
                conditional decision counts only where it is active.

        Raises:
            ValueError: an id or a shape does not fit the space.
        """
        from symnas.costs.independent import Independent

        independent = Independent(self.space, probabilities)
        n = DEAR_DRAWN if self.dear else DRAWN
        if independent.given:
            rows = independent.sample(n, np.random.default_rng(0))
        else:
            rows = self.space.sample(n)
        costs = torch.from_numpy(self(rows))
        mean = costs.mean()
        if not independent.differentiable:
            return mean
        # What is subtracted has no effect on the mean, and makes the gradient less noisy.
        log = independent.log_probability(rows)
        return mean + ((costs - mean) * (log - log.detach())).mean()

    def measure(self, architecture: Architecture) -> float:
        """The cost of an architecture, measured by the model itself, not remembered here."""
        return self.model(architecture)

    def upper(self, q: float = 0.95) -> BoundCost:
        """The prediction with so much safety that a share `q` of architectures costs no more.

        The cost itself, where it is measured rather than predicted.

        Raises:
            ValueError: `q` is not between 0 and 1.
        """
        if not 0 < q < 1:
            raise ValueError(f"`q` ({q}) must be between 0 and 1, such as 0.95.")
        if self.error is None or (factor := self.error.quantile(q)) == 1.0:
            return self
        return self._scaled(factor)

    def plot_distribution(self, limit: Any = None, **options: Any) -> Axes:
        """A histogram of the cost over the space: see `symnas.reports.cost_plots`."""
        from symnas.reports.cost_plots import plot_cost_distribution

        return plot_cost_distribution(self, limit, **options)

    def plot_error(self, **options: Any) -> Axes:
        """Predicted against measured costs: see `symnas.reports.cost_plots`."""
        from symnas.reports.cost_errors import plot_predicted_against_measured

        return plot_predicted_against_measured(self, **options)

    def bounds(self, limits: Limits) -> Bounds | None:
        """The limits on tables that mean the same; None where there are none.

        What they mean is then exact: shares of rows, samples, and whether any row is left.
        """
        return None

    def seen_as(self, model: CostModel) -> BoundCost:
        """The same cost, as that of another model."""
        seen = copy.copy(self)
        seen.model, seen.name, seen.unit = model, model.name, model.unit
        seen.device = model.device_name
        return seen

    def _scaled(self, factor: float) -> BoundCost:
        from symnas.costs.bound_combined import ScaledCost

        return ScaledCost(self.model, self, factor)

    @property
    def measured(self) -> int:
        """How many different rows had to be measured; 0 where costs are predicted."""
        return 0

    @property
    def dear(self) -> bool:
        """Whether a row's cost is so dear that as few as possible should be asked for."""
        return False

    def range(self, seed: Seed = 0, evaluations: int | None = None) -> Range:
        """The smallest and the largest cost found.

        A space of up to `evaluations` architectures is costed wholly. Of a larger one, random
        rows are costed first (a quarter of the evaluations), then from the best and the worst
        of them one decision at a time is changed to where the cost is smallest or largest.

        Args:
            seed: of the random rows.
            evaluations: the most rows to be costed; None: 512, for dear costs 96.

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
        return f"{type(self).__name__}({self.model!r}, {self.space!r})"


def is_dear(model: CostModel) -> bool:
    """Whether measuring with a model is dear."""
    return model.expense >= DEAR


def network_key(architecture: Architecture) -> str:
    """The architecture's key without the task's arguments: the network, and hardware if chosen."""
    if not architecture.task:
        return architecture.key
    from symnas.architecture.storage import content_key
    from symnas.costs.hardware import KEY

    hardware = {k: v for k, v in architecture.task.items() if k == KEY}
    return content_key(architecture.program, hardware, architecture.input)
