"""Whether constraints can be met at all: found out before a search, not after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symnas.costs.bound_constraints import BoundConstraints, LimitedCost
from symnas.costs.comparison import number_text
from symnas.costs.reach import Reach
from symnas.errors import Infeasible

if TYPE_CHECKING:
    from symnas.searchspace.space import Seed

Rows = NDArray[np.int32]

# Rows to draw, and then rows to score in each descent: where all costs are cheap, and where not.
_CHEAP = (256, 1024)
_DEAR = (32, 160)

_TIMES = ("ns", "us", "µs", "ms", "s", "seconds")


def check_possible(constraints: BoundConstraints, seed: Seed = 0) -> None:
    """Raises Infeasible unless an architecture is found that meets `constraints`."""
    if not constraints.checks:
        return
    if constraints.feasible is not None:
        _check_tables(constraints)
        if constraints.exact:
            return
    reach = Reach(constraints.space, seed)
    draws, budget = _DEAR if constraints.dear else _CHEAP
    everything = reach.all_rows(draws)
    rows = _random_rows(constraints, reach, draws, seed) if everything is None else everything
    if not len(rows):
        raise Infeasible(
            "The space's `valid` excludes all rows that were drawn. Write the space so that most "
            "of its architectures are valid."
        )
    # One by one: the first that is allowed ends it, and each may be dear.
    if any(constraints.mask(row[None])[0] for row in rows):
        return
    whole = everything is not None
    for check in constraints.checks:
        if isinstance(check, LimitedCost):
            _check_alone(check, reach, rows, budget, whole)
    if not whole and _meet_all(constraints, reach, rows, budget):
        return
    raise Infeasible(_together(constraints, rows, whole))


def _check_tables(constraints: BoundConstraints) -> None:
    """Raises Infeasible where the tables tell that no row keeps their limits."""
    for check in constraints.checks:
        if not isinstance(check, LimitedCost):
            continue
        if check.cost.bounds(check.constraint.limits) is None:
            continue
        found = check.cost.range()
        upper = check.constraint.upper is not None
        row, value = (found.row_low, found.low) if upper else (found.row_high, found.high)
        if found.exact and not check.mask(row[None])[0]:
            raise Infeasible(f"{check}: {_extreme(check, 1.0 if upper else -1.0, value, True)}.")
    sampler = constraints.sampler()
    if sampler is None or not sampler.possible:
        together = " and ".join(str(check) for check in constraints.checks)
        raise Infeasible(
            f"No architecture of this space meets {together} together. Loosen a constraint, or "
            "widen the space."
        )


def _random_rows(constraints: BoundConstraints, reach: Reach, n: int, seed: Seed) -> Rows:
    """Valid rows, drawn so that they keep the limits on tables."""
    if constraints.feasible is None:
        return reach.random_rows(n)
    rows = constraints.draw(4 * n, seed)
    rows = np.unique(rows[constraints.space.is_valid(rows)], axis=0)[:n]
    return rows if len(rows) else reach.random_rows(n)


def _check_alone(check: LimitedCost, reach: Reach, rows: Rows, budget: int, whole: bool) -> None:
    sign = 1.0 if check.constraint.upper is not None else -1.0
    values = sign * check.cost(rows)
    best, row = float(values.min()), rows[values.argmin()]
    if not whole and not check.mask(row[None])[0]:
        enough = sign * check.constraint.limits.closest
        row, best, _ = reach.descend(lambda r: sign * check.cost(r), row, budget, enough)
    if check.mask(row[None])[0]:
        return
    how = (
        f"of all {len(rows)}"
        if whole
        else f"of {check.cost.measured} measured: random, then one decision changed at a time"
    )
    raise Infeasible(f"{check}: {_extreme(check, sign, sign * best, whole)} ({how}).")


def _extreme(check: LimitedCost, sign: float, value: float, whole: bool) -> str:
    cost = check.cost
    where = "of this space" if whole else "found"
    unit = "" if cost.unit == cost.name else f" {cost.unit}"
    amount = f"{number_text(value)}{unit}"
    if cost.unit in _TIMES:
        return f"the {'fastest' if sign > 0 else 'slowest'} architecture {where} takes {amount}"
    return f"the {'smallest' if sign > 0 else 'largest'} {cost.name} {where} is {amount}"


def _meet_all(constraints: BoundConstraints, reach: Reach, rows: Rows, budget: int) -> bool:
    def excess(rows: Rows) -> NDArray[np.float64]:
        total = np.zeros(len(rows))
        for check in constraints.checks:
            total += check.excess(rows)
        return total

    start = rows[excess(rows).argmin()]
    return reach.descend(excess, start, budget, enough=0.0).score <= 0.0


def _together(constraints: BoundConstraints, rows: Rows, whole: bool) -> str:
    parts = [
        f"{check} (met by {int(check.mask(rows).sum())} of {len(rows)})"
        for check in constraints.checks
    ]
    kind = "architectures of this space" if whole else "random architectures"
    end = (
        "" if whole else ", and changing one decision at a time from the closest found none either"
    )
    return (
        f"No architecture was found that meets {' and '.join(parts)}: each count is of {kind}{end}. "
        "Loosen a constraint, or widen the space."
    )
