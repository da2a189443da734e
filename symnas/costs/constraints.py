"""Constraints: what `subject_to` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from symnas.costs.comparison import Comparable, Limits, refuse_truth
from symnas.errors import DeclarationError

if TYPE_CHECKING:
    from symnas.architecture.architecture import Architecture
    from symnas.costs.bound_constraints import BoundConstraints
    from symnas.costs.model import CostModel
    from symnas.searchspace.space import Space

Predicate = Callable[["Architecture"], bool]


@attrs.frozen
class Constraint:
    """`cost <= limit` or `cost >= limit`: what breaks it is never proposed.

    Attributes:
        cost: the cost model.
        limits: what its cost must keep to.
    """

    cost: CostModel
    limits: Limits

    @property
    def lower(self) -> float | None:
        """The smallest allowed cost."""
        return self.limits.lower

    @property
    def upper(self) -> float | None:
        """The largest allowed cost."""
        return self.limits.upper

    def hold(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which of these costs keep the constraint."""
        return self.limits.hold(values)

    def __str__(self) -> str:
        unit = self.cost.unit
        return self.limits.text(self.cost.name, "" if unit == self.cost.name else unit)

    __bool__ = refuse_truth


@attrs.frozen
class MetricConstraint:
    """A limit on a metric that is known only once a trial is evaluated.

    Trials that break it are proposed and evaluated, and then marked as infeasible.

    Attributes:
        name: of the metric.
        limits: what it must keep to.
    """

    name: str
    limits: Limits

    def violated(self, metrics: Mapping[str, float]) -> bool:
        """Whether what a trial measured breaks the limit; NaN does.

        Raises:
            KeyError: the metric is missing.
        """
        if self.name not in metrics:
            known = ", ".join(map(repr, metrics)) or "none"
            raise KeyError(
                f"The constraint `{self}` needs the metric {self.name!r}; the task returned "
                f"{known}. Return it from the task, or leave the constraint out."
            )
        return not bool(self.limits.hold(metrics[self.name]))

    def __str__(self) -> str:
        return self.limits.text(self.name)

    __bool__ = refuse_truth


@attrs.frozen(order=False)
class Metric(Comparable):
    """A metric of the task, to be compared with a number."""

    name: str

    def _constrain(self, limits: Limits) -> MetricConstraint:
        return MetricConstraint(self.name, limits)


def metric(name: str) -> Metric:
    """A metric that the task returns, for constraints on what is known only after a trial.

    >>> import symnas as sn
    >>> constraint = sn.metric("memory_mb") <= 512
    >>> constraint.violated({"accuracy": 0.9, "memory_mb": 700.0})
    True
    """
    if not isinstance(name, str) or not name:
        raise DeclarationError(
            f"sn.metric: `name` ({name!r}) must be the name of a metric of the task."
        )
    return Metric(name)


@attrs.frozen
class Constraints:
    """Several constraints, all of which must be kept.

    Attributes:
        costs: limits on cost models.
        predicates: functions of an architecture that say True for what is allowed.
        metrics: limits on what is known only after a trial.
    """

    costs: tuple[Constraint, ...] = ()
    predicates: tuple[Predicate, ...] = ()
    metrics: tuple[MetricConstraint, ...] = ()

    @classmethod
    def of(cls, items: Any) -> Constraints:
        """Constraints from what `subject_to` is given: one or a list.

        Raises:
            DeclarationError: an item is neither a constraint nor a function of an architecture,
                or two different cost models have the same name.

        >>> import symnas as sn
        >>> from symnas import cost_models as cm
        >>> small = cm.Parameters() <= 1_000
        >>> print(sn.Constraints.of([small, lambda architecture: True]).costs[0])
        parameters <= 1,000
        """
        if isinstance(items, cls):
            return items
        if items is None:
            items = ()
        if not isinstance(items, list | tuple):
            items = (items,)
        costs: list[Constraint] = []
        predicates: list[Predicate] = []
        metrics: list[MetricConstraint] = []
        for index, item in enumerate(items):
            if isinstance(item, Constraint):
                costs.append(item)
            elif isinstance(item, MetricConstraint):
                metrics.append(item)
            elif callable(item) and not isinstance(item, type) and not hasattr(item, "bind"):
                predicates.append(item)
            else:
                raise DeclarationError(_no_constraint(index, item))
        _check_names(costs)
        return cls(tuple(costs), tuple(predicates), tuple(metrics))

    def bind(self, space: Space) -> BoundConstraints:
        """The constraints on rows of a space.

        Raises:
            ValueError: a cost model needs the space's input shape, and it has none.
        """
        from symnas.costs.bound_constraints import BoundConstraints

        return BoundConstraints(self, space)

    def __len__(self) -> int:
        return len(self.costs) + len(self.predicates) + len(self.metrics)


def _check_names(constraints: list[Constraint]) -> None:
    models: dict[str, CostModel] = {}
    for constraint in constraints:
        model = models.setdefault(constraint.cost.name, constraint.cost)
        if model != constraint.cost:
            raise DeclarationError(
                f"Two different cost models are named {model.name!r}: {model!r} and "
                f'{constraint.cost!r}. Give one another name, as in Latency(name="latency_gpu").'
            )


def _no_constraint(index: int, item: Any) -> str:
    if hasattr(item, "bind") and hasattr(item, "name"):
        return (
            f"`subject_to[{index}]` is the cost {item.name!r} without a limit: write, for example, "
            f"{item.name} <= 20."
        )
    hint = (
        " A comparison with `==` gives False: use `<=` or `>=`." if isinstance(item, bool) else ""
    )
    return (
        f"`subject_to[{index}]` ({item!r:.80}) must be a constraint, such as `latency <= 20`, or a "
        f"function of an architecture that says whether it is allowed.{hint}"
    )
