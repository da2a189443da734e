"""Constraints: what an architecture must not exceed, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.model import BoundCost, CostModel
from symnas.errors import DeclarationError, Infeasible

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.searchspace.space import Space


@attrs.frozen(repr=False, eq=False)
class Constraint:
    """A bound on a cost: `latency <= 20.0`."""

    cost: CostModel
    lower: float | None = None
    upper: float | None = None

    def meets(self, value: Any) -> Any:
        """Whether a cost, or an array of them, is within the bounds."""
        met = np.ones(np.shape(value), bool)
        if self.lower is not None:
            met = met & (value >= self.lower)
        if self.upper is not None:
            met = met & (value <= self.upper)
        return met

    def __bool__(self) -> bool:
        raise DeclarationError(
            f"A constraint ({self!r}) has no truth value: `a <= cost <= b` would lose one half. "
            "Write two: subject_to=[cost >= a, cost <= b]."
        )

    def __repr__(self) -> str:
        sign, limit = ("<=", self.upper) if self.upper is not None else (">=", self.lower)
        return f"{self.cost.name} {sign} {limit:g} {self.cost.unit}".rstrip()


@attrs.frozen(repr=False)
class MetricConstraint:
    """A bound on what is known only after evaluation: `sn.metric("memory_mb") <= 500`."""

    name: str
    lower: float | None = None
    upper: float | None = None

    def violated(self, metrics: Mapping[str, float]) -> str | None:
        """Why the metrics of a trial break this constraint, or None if they do not."""
        if self.name not in metrics:
            return f"the task returned no metric {self.name!r}, which {self!r} needs"
        value = metrics[self.name]
        below = self.lower is not None and not value >= self.lower
        above = self.upper is not None and not value <= self.upper
        return f"{self.name} is {value:g}, which breaks {self!r}" if below or above else None

    def __bool__(self) -> bool:
        raise DeclarationError(
            f"A constraint ({self!r}) has no truth value: write two constraints instead of "
            "`a <= metric <= b`."
        )

    def __repr__(self) -> str:
        sign, limit = ("<=", self.upper) if self.upper is not None else (">=", self.lower)
        return f"{self.name} {sign} {limit:g}"


@attrs.frozen
class Metric:
    """The name of a metric, to be compared with a number."""

    name: str

    def __le__(self, limit: float) -> MetricConstraint:
        return MetricConstraint(self.name, upper=float(limit))

    def __ge__(self, limit: float) -> MetricConstraint:
        return MetricConstraint(self.name, lower=float(limit))


def metric(name: str) -> Metric:
    """A metric that the task returns, for constraints that only an evaluation can check.

    >>> import symnas as sn
    >>> sn.metric("memory_mb") <= 500
    memory_mb <= 500
    """
    return Metric(name)


Predicate = Callable[["Architecture"], bool]


@attrs.frozen
class Constraints:
    """Several constraints, all of which must hold."""

    on_costs: tuple[Constraint, ...] = ()
    on_metrics: tuple[MetricConstraint, ...] = ()
    predicates: tuple[Predicate, ...] = ()

    @classmethod
    def of(cls, constraints: Any) -> Constraints:
        """From what `subject_to` takes: constraints and functions of an architecture.

        Raises:
            DeclarationError: something else is among them, or two costs share a name.
        """
        if isinstance(constraints, Constraints):
            return constraints
        if isinstance(constraints, Constraint | MetricConstraint) or callable(constraints):
            constraints = [constraints]
        on_costs, on_metrics, predicates = [], [], []
        for item in constraints:
            if isinstance(item, Constraint):
                on_costs.append(item)
            elif isinstance(item, MetricConstraint):
                on_metrics.append(item)
            elif callable(item) and not isinstance(item, CostModel | type):
                predicates.append(item)
            else:
                raise DeclarationError(
                    f"`subject_to` ({item!r}) must be a comparison such as `latency <= 2.0`, or a "
                    "function of an architecture that returns True or False."
                )
        models: dict[str, CostModel] = {}
        for constraint in on_costs:
            known = models.setdefault(constraint.cost.name, constraint.cost)
            if known is not constraint.cost and known != constraint.cost:
                raise DeclarationError(
                    f"Two different cost models are named {constraint.cost.name!r}. Give one "
                    "another name."
                )
        return cls(tuple(on_costs), tuple(on_metrics), tuple(predicates))

    def bind(self, space: Space) -> BoundConstraints:
        """These constraints for the rows of a space."""
        costs: dict[str, BoundCost] = {}
        for constraint in self.on_costs:
            if constraint.cost.name not in costs:
                costs[constraint.cost.name] = constraint.cost.bind(space)
        return BoundConstraints(self, space, costs)


class BoundConstraints:
    """Constraints for the rows of one space."""

    def __init__(
        self, constraints: Constraints, space: Space, costs: dict[str, BoundCost]
    ) -> None:
        self.space = space
        self.on_metrics = constraints.on_metrics
        self.predicates = constraints.predicates
        self._costs = costs
        # What is cheap to ask is asked first: much of a space is ruled out by it.
        self.on_costs = sorted(constraints.on_costs, key=lambda c: c.cost.expense)

    @property
    def costs(self) -> tuple[BoundCost, ...]:
        """The costs that are constrained."""
        return tuple(self._costs.values())

    @property
    def dear(self) -> bool:
        """Whether a cost has to be measured, so that few rows should be asked for."""
        return any(cost.model.expense > 0 for cost in self.costs)

    def mask(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows `(n, columns)` meet all constraints that can be checked before evaluation."""
        rows = np.asarray(rows)
        met = np.ones(len(rows), bool)
        for constraint in (c for c in self.on_costs if c.cost.expense == 0):
            self._narrow(met, rows, constraint)
        for predicate in self.predicates:
            for i in np.flatnonzero(met):
                met[i] = self._holds(predicate, rows[i])
        for constraint in (c for c in self.on_costs if c.cost.expense > 0):
            self._narrow(met, rows, constraint)
        return met

    def describe(self) -> list[str]:
        """One text a constraint, for records and reports."""
        texts = [repr(c) for c in (*self.on_costs, *self.on_metrics)]
        return texts + [getattr(p, "__qualname__", repr(p)) for p in self.predicates]

    def feasible_fraction(self, n: int = 256, seed: int = 0) -> tuple[float, float]:
        """Bounds on the share of random rows that meet the constraints, from a sample of `n`.

        A Wilson interval at 95%: the truth lies outside of it once in twenty samples.
        """
        rows = self.space.sample(n, seed)
        share = float((self.space.is_valid(rows) & self.mask(rows)).mean())
        z = 1.96
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
        return max(0.0, centre - half), min(1.0, centre + half)

    def check_possible(self, space: Space, seed: int = 0) -> None:
        """Looks for one architecture that meets the constraints.

        Random ones first; then, for each cost, one decision is changed at a time towards its limit.

        Raises:
            Infeasible: none was found; says the nearest value of each cost that was.
        """
        rows = space.sample(24 if self.dear else 256, seed)
        valid = rows[space.is_valid(rows)]
        for row in valid:
            if self.mask(row[None])[0]:
                return
        messages = []
        for constraint in self.on_costs:
            cost = self._costs[constraint.cost.name]
            sign = 1 if constraint.upper is not None else -1
            limit = constraint.upper if constraint.upper is not None else constraint.lower
            row, value, _ = cost.descend(seed, sign, until=limit)
            if self.mask(row[None])[0]:
                return
            if not constraint.meets(np.float64(value)):
                what = "smallest" if sign > 0 else "largest"
                messages.append(
                    f"{constraint!r}: the {what} found in this space is {value:.4g} {cost.unit} "
                    f"(of {len(cost._known)} looked at: random ones, then one decision changed at "
                    f"a time), in {space.decode(row)!r}"
                )
        if messages:
            raise Infeasible(
                "No architecture meets the constraints. " + "; ".join(messages) + ". Relax the "
                "limit, or give the space smaller candidates."
            )
        if self.predicates or len(self.on_costs) > 1:
            more = space.sample(100 if self.dear else 10_000, (seed, 1))
            more = more[space.is_valid(more)]
            if not any(self.mask(row[None])[0] for row in more):
                raise Infeasible(
                    f"None of {len(valid) + len(more)} random architectures meets all of: "
                    f"{', '.join(self.describe())}. Each may be met alone: relax one."
                )

    def _narrow(self, met: NDArray[np.bool_], rows: Any, constraint: Constraint) -> None:
        open_ = np.flatnonzero(met)
        if len(open_):
            met[open_] = constraint.meets(self._costs[constraint.cost.name](rows[open_]))

    def _holds(self, predicate: Predicate, row: Any) -> bool:
        value = predicate(self.space.decode(row))
        if not isinstance(value, bool | np.bool_):
            name = getattr(predicate, "__qualname__", repr(predicate))
            raise DeclarationError(
                f"`subject_to`: the function `{name}` returned {value!r} for an architecture; it "
                "must return True or False."
            )
        return bool(value)


def violations(
    constraints: Sequence[MetricConstraint], metrics: Mapping[str, float]
) -> list[str]:
    """What the metrics of a trial break."""
    found = (constraint.violated(metrics) for constraint in constraints)
    return [text for text in found if text is not None]
