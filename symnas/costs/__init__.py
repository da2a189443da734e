"""Cost models, what they say of a space, and constraints made of them."""

from symnas.costs.bound import BoundCost, Range
from symnas.costs.bound_constraints import BoundConstraints
from symnas.costs.constraints import Constraint, Constraints, Metric, MetricConstraint, metric
from symnas.costs.model import CostFailed, CostModel

__all__ = [
    "BoundConstraints",
    "BoundCost",
    "Constraint",
    "Constraints",
    "CostFailed",
    "CostModel",
    "Metric",
    "MetricConstraint",
    "Range",
    "metric",
]
