"""Constraints bound to a space: which rows are allowed, and whether any is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound import BoundCost
from symnas.costs.constraints import Constraint, Constraints, Predicate
from symnas.costs.reach import DEAR
from symnas.errors import DeclarationError

if TYPE_CHECKING:
    from symnas.searchspace.space import Seed, Space

Rows = NDArray[np.int32]

# Predicates are functions of an architecture's choices: dearer than counting parameters or MACs
# would suggest, yet much cheaper than measuring time.
PREDICATE_EXPENSE = 3


@attrs.frozen
class LimitedCost:
    """A constraint on a cost, bound: `mask(rows)`."""

    constraint: Constraint
    cost: BoundCost

    @property
    def expense(self) -> int:
        """Of the cost model."""
        return self.cost.model.expense

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows keep the constraint: `(n,)`."""
        return self.constraint.hold(self.cost(rows))

    def excess(self, rows: Rows) -> NDArray[np.float64]:
        """By how much rows break the constraint, relative to the limit; 0 where they do not."""
        limits = self.constraint.limits
        return np.array([limits.excess(float(value)) for value in self.cost(rows)])

    def __str__(self) -> str:
        return str(self.constraint)


@attrs.frozen
class BoundPredicate:
    """A predicate on architectures, on rows: `mask(rows)`."""

    function: Predicate
    space: Space
    expense: int = PREDICATE_EXPENSE

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows the predicate allows: `(n,)`."""
        return np.array([self._allows(row) for row in rows], bool)

    def excess(self, rows: Rows) -> NDArray[np.float64]:
        """1 where the predicate does not hold."""
        return (~self.mask(rows)).astype(np.float64)

    def _allows(self, row: Rows) -> bool:
        allowed = self.function(self.space.decode(row))
        if not isinstance(allowed, bool | np.bool_):
            raise DeclarationError(
                f"The constraint `{self}` returned {allowed!r:.60} for an architecture; it must "
                "return True or False."
            )
        return bool(allowed)

    def __str__(self) -> str:
        function = self.function
        return getattr(function, "__qualname__", None) or type(function).__qualname__


class BoundConstraints:
    """Constraints on the rows of a space.

    Attributes:
        space: what they are bound to.
        costs: each bound cost once, cheapest first.
        metrics: the constraints on metrics, which no mask can know.
        dear: whether a cost among them is dear to measure.
    """

    def __init__(self, constraints: Constraints, space: Space) -> None:
        self.space = space
        self.metrics = constraints.metrics
        bound: dict[str, BoundCost] = {}
        checks: list[LimitedCost | BoundPredicate] = []
        for constraint in constraints.costs:
            model = constraint.cost
            if model.name not in bound:
                bound[model.name] = model.bind(space)
            checks.append(LimitedCost(constraint, bound[model.name]))
        checks += [BoundPredicate(function, space) for function in constraints.predicates]
        self.checks = tuple(sorted(checks, key=lambda check: check.expense))
        self.costs = tuple(sorted(bound.values(), key=lambda cost: cost.model.expense))
        self.dear = any(check.expense >= DEAR for check in checks)

    def mask(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows keep all constraints that are known before evaluation: `(n,)`.

        Cheap constraints come first, and dear ones see only what those leave.
        """
        rows = np.asarray(rows, np.int32).reshape(-1, len(self.space))
        mask = np.ones(len(rows), bool)
        for check in self.checks:
            if mask.any():
                mask[mask] = check.mask(rows[mask])
        return mask

    def violated(self, metrics: Mapping[str, float]) -> list[str]:
        """The constraints on metrics that a trial's metrics break.

        Raises:
            KeyError: a metric is missing.
        """
        return [str(constraint) for constraint in self.metrics if constraint.violated(metrics)]

    def describe(self) -> list[str]:
        """What is constrained, for the record of a study: equal for equal constraints."""
        described = []
        for check in self.checks:
            if isinstance(check, LimitedCost):
                model = check.cost.model
                code = model.describe()["code"]
                details = f"{model!r} on {model.device_name}" + (f", code {code}" if code else "")
                described.append(f"{check} [{details}]")
            else:
                described.append(f"{check} [{_identity(check.function)}]")
        return [*described, *(f"metric {constraint}" for constraint in self.metrics)]

    def feasible_fraction(self, n: int = 256, seed: Seed = 0) -> tuple[float, float]:
        """Bounds on the share of random rows that are allowed, `valid` included.

        The 95% interval of Wilson 1927 ("Probable inference", JASA 22), from `n` random rows.
        """
        if n < 1:
            raise ValueError(f"`n` ({n}) must be at least 1.")
        rows = self.space.sample(n, seed)
        valid = self.space.is_valid(rows)
        return wilson(int(self.mask(rows[valid]).sum()), n)

    def check_possible(self, space: Space | None = None, seed: Seed = 0) -> None:
        """Looks for one allowed architecture, and refuses constraints that none seems to meet.

        Tries random rows, then changes one decision at a time towards each limit alone, and at
        last towards all of them.

        Args:
            space: the space that the constraints are bound to; it may be left out.
            seed: of the random rows.

        Raises:
            Infeasible: nothing allowed was found; names the constraint and what was reached.
        """
        from symnas.costs.possible import check_possible

        if space is not None and space is not self.space:
            raise ValueError(f"The constraints are bound to {self.space!r}, not to {space!r}.")
        check_possible(self, seed)


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share.

    >>> low, high = wilson(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    share, spread = successes / n, z * z / n
    center = share + spread / 2
    margin = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low, high = (center - margin) / (1 + spread), (center + margin) / (1 + spread)
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


def _identity(function: Any) -> str:
    from symnas.searching.identity import describe_callable

    text = json.dumps(describe_callable(function), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
