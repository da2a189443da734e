"""The costs of random architectures, and the share of them that keeps limits."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from symnas.costs.intervals import narrower
from symnas.reports.cost_canvas import limit_text, share
from symnas.reports.measures import Numbers

if TYPE_CHECKING:
    from symnas.costs.bound import BoundCost
    from symnas.costs.comparison import Limits

# Random architectures: of costs that are cheap, and of those that must be measured dearly.
DRAWN, DEAR_DRAWN = 2000, 64


@attrs.frozen(eq=False)
class CostShare:
    """Costs of random architectures, with limits.

    Attributes:
        costs: `(n,)`, in the unit of the cost.
        limits: what the cost must keep to.
        lower, upper: bounds on the share of architectures that keep all limits; certain where
            `certain`, otherwise the 95% interval of Wilson 1927 from the costs.
        certain: whether the bounds follow from tables: see `symnas.costs.feasible`.
        texts: the limits for people.
    """

    costs: Numbers
    limits: tuple[Limits, ...]
    lower: float
    upper: float
    certain: bool
    texts: tuple[str, ...]

    @property
    def values(self) -> list[float]:
        """Where the limits are."""
        ends = [(limit.lower, limit.upper) for limit in self.limits]
        return [value for pair in ends for value in pair if value is not None]

    def __str__(self) -> str:
        if self.upper - self.lower <= 0.005 * self.upper:
            return share(self.upper)
        if self.certain:
            return f"{share(self.lower)} to {share(self.upper)}"
        kept = int(np.logical_and.reduce([limit.hold(self.costs) for limit in self.limits]).sum())
        return f"{share(kept / len(self.costs))} ({share(self.lower)} to {share(self.upper)})"


def cost_share(
    cost: BoundCost, limit: Any = None, n: int | None = None, seed: int = 0
) -> CostShare:
    """Costs of random architectures, and the share of them that keeps limits.

    Args:
        cost: bound to a space.
        limit: a number (the largest allowed cost), a constraint on this cost, or a list of those.
        n: random architectures; by default 2,000, or 64 where measuring costs is dear.
        seed: of the random architectures.

    Raises:
        ValueError: see `plot_cost_distribution`.

    >>> import symnas as sn
    >>> from symnas import cost_models as cm
    >>> space = sn.Space(sn.nn.Linear(4, sn.oneof([8, 16, 24, 32])), input=(4,))
    >>> str(cost_share(cm.Macs().bind(space), limit=64, n=100))
    '50%'
    """
    limits = _limits(cost, limit)
    drawn = (DEAR_DRAWN if cost.dear else DRAWN) if n is None else n
    if not isinstance(drawn, int) or drawn < 2:
        raise ValueError(f"`n` ({n!r}) must be a whole number of at least 2.")
    rows = cost.space.sample(drawn, seed)
    if cost.space.valid is not None:
        rows = rows[cost.space.is_valid(rows)]
    if not len(rows):
        raise ValueError(
            f"`cost`: the space's `valid` excludes all of {drawn:,} random architectures, so there "
            "is nothing to show. Give a larger `n`."
        )
    costs = cost(rows)
    texts = tuple(limit_text(cost.name, one, cost.unit) for one in limits)
    lower, upper, certain = _bounds(cost, limits, costs)
    return CostShare(costs, limits, lower, upper, certain, texts)


def _limits(cost: BoundCost, limit: Any) -> tuple[Limits, ...]:
    from symnas.costs.comparison import Limits
    from symnas.costs.constraints import Constraint

    found = []
    for item in limit if isinstance(limit, list | tuple) else [limit]:
        if item is None:
            continue
        if isinstance(item, Constraint):
            if item.cost.name != cost.name:
                raise ValueError(
                    f"`limit` (`{item}`) is on {item.cost.name!r}, and the cost that is drawn is "
                    f"{cost.name!r}: leave it out, or draw that cost."
                )
            found.append(item.limits)
        elif isinstance(item, numbers.Real) and not isinstance(item, bool):
            found.append(Limits(upper=float(item)))
        else:
            raise ValueError(
                f"`limit` ({item!r:.60}) must be a number, in {cost.unit}, or a constraint such as "
                f"`{cost.name} <= 20`, or a list of those."
            )
    return tuple(found)


def _bounds(
    cost: BoundCost, limits: tuple[Limits, ...], costs: Numbers
) -> tuple[float, float, bool]:
    """Bounds on the share, and whether they are certain."""
    if not limits:
        return 1.0, 1.0, True
    kept = np.logical_and.reduce([limit.hold(costs) for limit in limits])
    return narrower(_certain(cost, limits), kept)


def _certain(cost: BoundCost, limits: tuple[Limits, ...]) -> tuple[float, float] | None:
    """Bounds from tables; None where there are none."""
    from symnas.costs.feasible import Feasible
    from symnas.costs.independent import Independent
    from symnas.costs.scopes import TooCoupled
    from symnas.costs.structure import structure_of

    known = [cost.bounds(limit) for limit in limits]
    if cost.space.valid is not None or any(bounds is None for bounds in known):
        return None
    sums = [limit for bounds in known if bounds for limit in bounds.sums]
    maxima = [ceiling for bounds in known if bounds for ceiling in bounds.maxima]
    try:
        feasible = Feasible(structure_of(cost.space), sums, maxima)
        lower, upper = feasible.fraction(Independent(cost.space))
    except TooCoupled:
        return None
    return float(lower), float(upper)
